"""`export`: the source as Parquet, one folder per scope, with its schema."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import ConfigurationError, StorageFailed
from vectormigrate_dagster.model import Split
from vectormigrate_dagster.model.parquet import write_batches
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.models import ExportDocument, ExportedScope

_FILE_RECORDS = 100_000
_BATCH_RECORDS = 1000
_UNDIVIDED = "records"


def export(context: Context, migration_id: str, *, to: Path) -> ExportDocument:
    """Write the source as Parquet files that `model.parquet` reads back bit for bit.

    Args:
        context: the folders to work in.
        migration_id: the migration whose source is meant.
        to: a new or empty folder.

    Raises:
        ConfigurationError: `to` is a file, or a folder with something in it.
        StorageFailed: it cannot be written.
        DatabaseError: the source could not be reached or refused us.
    """
    migration = context.migration(migration_id)
    source, _ = endpoints(migration)
    began = time.monotonic()
    with new_folder(to), databases.open_source(source) as opened:
        schema = opened.describe()
        wanted = None if migration.source.scopes == "all" else migration.source.scopes
        splits = opened.plan_splits(_FILE_RECORDS, wanted)
        to.mkdir(parents=True, exist_ok=True)
        (to / "schema.json").write_text(schema.model_dump_json(indent=2), encoding="utf-8")
        by_scope = itertools.groupby(sorted(splits, key=lambda split: split.scope or ""), lambda split: split.scope)
        scopes = tuple(
            _export_scope(opened, scope, list(group), to / f"{number:04}-{_folder(scope)}")
            for number, (scope, group) in enumerate(by_scope)
        )
    return ExportDocument(
        migration_id=migration.id,
        to=str(to),
        records=sum(scope.records for scope in scopes),
        bytes=sum(path.stat().st_size for path in to.rglob("*.parquet")),
        seconds=round(time.monotonic() - began, 3),
        scopes=scopes,
    )


def _export_scope(source: Source, scope: str | None, splits: list[Split], folder: Path) -> ExportedScope:
    folder.mkdir()
    files = records = 0
    for split in splits:
        batches = source.scan(split, batch_records=_BATCH_RECORDS)
        first = next(batches, None)
        if first is not None:
            records += write_batches(folder / f"{files:05}.parquet", itertools.chain([first], batches))
            files += 1
    return ExportedScope(scope=scope, folder=folder.name, files=files, records=records)


def _folder(scope: str | None) -> str:
    """A scope's name as part of a folder's; the number before it keeps two scopes apart."""
    return _UNDIVIDED if scope is None else re.sub(r"[^A-Za-z0-9_.-]", "_", scope)[:64]


@contextmanager
def new_folder(to: Path) -> Iterator[None]:
    """Write into a folder that is not there yet, or empty; what the disk says becomes an error of ours.

    Raises:
        ConfigurationError: `to` is a file, or a folder with something in it.
        StorageFailed: it cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigurationError(f"'{to}' is not an empty folder; name a new one")
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a database's error that is a ConnectionError too
            raise
        raise StorageFailed(f"'{to}' cannot be written: {error.strerror}") from error
