"""`demo`: the real data set from an embedded Qdrant to a Milvus Lite, every record validated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.migration_file import load_migration
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, IdColumn, IdKind, IdSchema, Metric, VectorSchema
from vectormigrate_dagster.model.vectors import Floats
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.migrate import Progress, migrate
from vectormigrate_dagster.services.models import DemoDocument, DemoValidation
from vectormigrate_dagster.validation import GivenQueries
from vectormigrate_dagster.validation.search.query_file import read_queries

DEMO, DEMO_LIVE = "demo", "demo-live"
_BATCH = 500
_MIGRATION_FILE = """\
# 2,992 packages of Debian 12 with their embeddings, from an embedded Qdrant to a Milvus Lite.
source:
  type: qdrant
  path: ../data/qdrant
  collection: packages
target:
  type: milvus
  path: ../data/milvus.db
  collection: packages
transfer:
  partition_records: 600
"""
LIVE_PACKAGES = 1000
"""Of the live demo: an embedded database does one thing at a time, and several want it at once there."""

_LIVE_FILE = """\
# 1,000 packages of Debian 12 with their embeddings, which an application goes on writing while they move.
source:
  type: qdrant
  path: ../data/qdrant-live
  collection: packages
target:
  type: milvus
  path: ../data/milvus-live.db
  collection: packages
transfer:
  partition_records: 250
validation:
  search:
    queries: 0  # every record is compared; searching would keep the writers waiting
"""


def demo(context: Context, *, progress: Progress | None = None) -> DemoDocument:
    """Make a source out of the packaged data, migrate it, validate every record; again goes on or checks again.

    Args:
        context: the home; the migration file is written into its folder of migrations.
        progress: called with the status about twice a second.
    """
    migration = _written(context, DEMO, _MIGRATION_FILE)
    source, target = endpoints(migration)
    records = make_source(source, _packages(), Metric.COSINE)
    began = time.monotonic()
    status = migrate(context, migration.id, progress=progress)
    seconds = time.monotonic() - began
    with context.instance() as instance:
        report = validate_migration(instance, migration, source, target, full=True, queries=_queries())
    with databases.open_target(target) as written:
        arrived = written.count()
    return DemoDocument(
        migration_id=migration.id,
        source=migration.source.type,
        target=migration.target.type,
        records_source=records,
        records_target=arrived,
        validation=DemoValidation(passed=report.passed, tiers={tier.tier: tier.passed for tier in report.tiers}),
        seconds=round(seconds, 3),
        records_per_second=round(status.progress.migrated_records / seconds, 1),
        home=str(context.home.absolute()),
    )


def live_migration(context: Context) -> Migration:
    """The migration of the live demo; its file is written if it is not there."""
    return _written(context, DEMO_LIVE, _LIVE_FILE)


def live_packages() -> pa.Table:
    """What the live demo moves."""
    return _packages().slice(0, LIVE_PACKAGES)


def _written(context: Context, name: str, file: str) -> Migration:
    path = context.migrations / f"{name}.yaml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file, encoding="utf-8")
    return load_migration(path)


def make_source(endpoint: Endpoint, table: pa.Table, metric: Metric) -> int:
    """Fill the source with packaged records, unless it holds so many already; return how many it holds."""
    with databases.open_target(endpoint) as source:
        try:
            if source.count() == len(table):
                return len(table)
        except NotFound:
            source.create(_schema(endpoint.collection, metric))
        for batch in _batches(table):
            source.upsert(batch)
        return source.count()


def _schema(name: str, metric: Metric) -> CollectionSchema:
    return CollectionSchema(
        name=name,
        ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)),
        vectors=(VectorSchema(name="embedding", dim=384, metric=metric),),
    )


def _packages() -> pa.Table:
    with _data("debian_packages.parquet") as path:
        return pq.read_table(path)


def _queries() -> GivenQueries:
    """100 plain-language queries."""
    with _data("debian_packages_queries.parquet") as path:
        return read_queries(path)


def _data(name: str) -> AbstractContextManager[Path]:
    """A packaged file."""
    return as_file(files("vectormigrate_dagster").joinpath("data", name))


def numbered(table: pa.Table) -> Batch:
    """Packages as records: the row's number is the id, since Qdrant has no text ids; the name is payload."""
    return Batch(
        ids=IdColumn.of(IdKind.U64, range(1, len(table) + 1)),
        vectors={"embedding": Dense(_matrix(table.column("embedding")))},
        payloads=table.drop_columns(["embedding"]).to_pylist(),
    )


def _batches(table: pa.Table) -> Iterator[Batch]:
    whole = numbered(table)
    for start in range(0, len(whole), _BATCH):
        yield whole.take(np.arange(start, min(start + _BATCH, len(whole))))


def _matrix(column: Any) -> Floats:
    flat = column.combine_chunks().flatten().to_numpy()
    return np.ascontiguousarray(flat.reshape(len(column), -1), dtype=np.float32)
