"""`export --for-import`: the source, mapped by the plan, as files that the target's own bulk import reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint, Refusal, Source
from vectormigrate_dagster.databases.bulk_files import BulkFiles
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back
from vectormigrate_dagster.defs.target import prepare_target
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.services.bulk_writer import FolderWriter
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.export import new_folder
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import ExportedScope, ImportFilesDocument
from vectormigrate_dagster.transfer.patient import PatientSource
from vectormigrate_dagster.transfer.throttle import Throttle

_BATCH_RECORDS = 1000
_FILES = "import"
_REFUSED = "refused.jsonl"
_VANISHED = "the source listed it, and could not give it"


def export_for_import(context: Context, migration_id: str, *, to: Path, create: bool = False) -> ImportFilesDocument:
    """Write the planned records as Parquet in the layout of the target's bulk import, and list what was refused.

    Args:
        context: the folders to work in.
        migration_id: the migration, which has a plan.
        to: a new or empty folder.
        create: make the target's collection as planned, so that files can be imported into it.

    Raises:
        ConfigurationError: the target has no such import, or `to` is not empty.
        SchemaMismatch: it has none for the planned collection.
        PlanOutdated: there is no plan, or the migration file was changed since; or what it moved was taken back, and
            a collection is to be made for it.
        StorageFailed: `to` cannot be written.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it; the files are not whole.
    """
    migration = context.migration(migration_id)
    began = time.monotonic()
    with context.instance() as instance:
        log = MigrationLog(instance, migration.id)
        plan = log.require_plan()
        log.refresh()
        require_current(plan, migration)
        if create:
            require_not_rolled_back(log, plan)
        source, target = endpoints(migration)
        layout = databases.bulk_files_of(target, plan.mapping.target_schema)
        throttle = throttle_of(log, migration.transfer)
        with new_folder(to):
            if create:
                _create(instance, migration, plan, target, throttle)
            work = _Work(layout, RecordMapper(plan.mapping), to)
            with databases.open_source(source, sleep=throttle.interrupt.sleep) as opened:
                patient = PatientSource(opened, throttle)
                in_foreground(partial(work.run, patient, plan))
    scopes = work.writer.scopes()
    proof = f"prove it: vectormigrate validate {migration.id} --full"
    return ImportFilesDocument(
        migration_id=migration.id,
        to=str(to),
        records=sum(scope.records for scope in scopes),
        refused=work.refused,
        refused_file=str(to / _REFUSED) if work.refused else None,
        bytes=sum(path.stat().st_size for path in to.rglob("*.parquet")),
        seconds=round(time.monotonic() - began, 3),
        scopes=tuple(ExportedScope(scope=s.scope, folder=s.folder, files=s.files, records=s.records) for s in scopes),
        steps=(*layout.steps(to / _FILES, [(scope.scope, scope.folder) for scope in scopes]), proof),
    )


def _create(
    instance: dg.DagsterInstance, migration: Migration, plan: Plan, target: Endpoint, throttle: Throttle
) -> None:
    """Make the target ready as a load does, so that validation knows whose it is."""
    log = MigrationLog(instance, migration.id)
    with databases.open_target(target, sleep=throttle.interrupt.sleep) as opened:
        throttle.target.call(opened.probe)
        throttle.target.call(partial(prepare_target, log, plan, migration, opened))


class _Work:
    """Reads every split of the plan and writes what it becomes."""

    def __init__(self, layout: BulkFiles, mapper: RecordMapper, to: Path) -> None:
        self.writer = FolderWriter(layout, to / _FILES)
        self.refused = 0
        self._layout = layout
        self._mapper = mapper
        self._list = to / _REFUSED

    def run(self, source: Source, plan: Plan) -> None:
        """Write all files; memory does not depend on how many records there are."""
        self._list.parent.mkdir(parents=True, exist_ok=True)
        with self.writer:
            for planned in plan.splits:
                for batch in source.scan(planned.split, batch_records=_BATCH_RECORDS):
                    self._refuse(Refusal(text, _VANISHED, batch.scope) for text in batch.vanished)
                    self._write(batch)

    def _write(self, batch: Batch) -> None:
        mapped = self._mapper.map(batch)
        self._refuse(mapped.refused)
        for part in mapped.batches:
            table, refusals = self._layout.table_of(part)
            self.writer.write(part.scope, table)
            self._refuse(self._by_source(batch, part, refusals))

    def _by_source(self, batch: Batch, part: Batch, refusals: list[Refusal]) -> Iterable[Refusal]:
        """What the layout has no place for, by the records' original ids and scope."""
        if not refusals:
            return ()
        reasons = {refusal.id: refusal.reason for refusal in refusals}
        refused = part.take([row for row, text in enumerate(part.ids.texts()) if text in reasons])
        originals = self._mapper.original_ids(refused)
        texts = zip(refused.ids.texts(), originals, strict=True)
        return [Refusal(id_text(original), reasons[text], batch.scope) for text, (_, original) in texts]

    def _refuse(self, refusals: Iterable[Refusal]) -> None:
        lines = [json.dumps({"id": r.id, "reason": r.reason, "scope": r.scope}) + "\n" for r in refusals]
        if lines:
            with self._list.open("a", encoding="utf-8") as file:
                file.writelines(lines)
            self.refused += len(lines)
