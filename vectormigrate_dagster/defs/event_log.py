"""The only reader and writer of a migration's state, which is kept in Dagster's event log.

State is run-less observations of the asset `<id>/state`, one partition per key, so that deleting a run in the
UI deletes no state; the newest of each key wins. The plan is a run-less materialization of `<id>/plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg
from dagster._core.events import DagsterEventType
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.state import (
    CONTINUE,
    CONTROL,
    TARGET,
    VALIDATION,
    Continue,
    Control,
    PartitionState,
    TargetState,
    ValidationState,
)
from vectormigrate_dagster.errors import PlanOutdated, StorageFailed
from vectormigrate_dagster.mapping.plan import Plan

_DOCUMENT = "state"
_PLAN = "plan"
_PLAN_FILE = "plan_file"
_INLINE_PLAN_BYTES = 2 * 2**20
_PAGE = 1000

Document = TypeVar("Document", bound=BaseModel)


class MigrationLog:
    """The state of one migration: read by `refresh`, answered from memory, written by `record`."""

    def __init__(self, instance: dg.DagsterInstance, migration_id: str) -> None:
        self.instance = instance
        self.migration_id = migration_id
        self._asset = names.state_asset(migration_id)
        self._documents: dict[str, Any] = {}
        self._cursor: int | None = None

    def refresh(self) -> None:
        """Read what was recorded since the last call (everything at the first)."""
        with storage():
            if self._cursor is None:
                self._read_newest()
            else:
                self._read_since(self._cursor)

    def record(self, key: str, document: BaseModel) -> None:
        """Write a state document durably.

        Raises:
            StorageFailed: Dagster's storage cannot be written.
        """
        value = document.model_dump(mode="json")
        with storage():
            self.instance.report_runless_asset_event(
                dg.AssetObservation(
                    asset_key=self._asset, partition=key, metadata={_DOCUMENT: dg.MetadataValue.json(value)}
                )
            )
        self._documents[key] = value

    def partitions(self, plan: Plan) -> dict[str, PartitionState]:
        """The newest state of each partition of `plan` that has one."""
        states, digest = {}, plan.digest
        for planned in plan.splits:
            state = self._get(planned.key, PartitionState)
            if state is not None and state.plan == digest:
                states[planned.key] = state
        return states

    def target(self, plan: Plan) -> TargetState | None:
        """Whose the target collection is, under `plan`."""
        state = self._get(TARGET, TargetState)
        return state if state is not None and state.plan == plan.digest else None

    def control(self) -> Control:
        """What people ask of running work."""
        return self._get(CONTROL, Control) or Control()

    def validation(self, plan: Plan) -> ValidationState | None:
        """The newest validation under `plan`."""
        state = self._get(VALIDATION, ValidationState)
        return state if state is not None and state.plan == plan.digest else None

    def continues(self, plan: Plan) -> bool:
        """Whether `plan` is to be followed by its load without anybody asking again."""
        state = self._get(CONTINUE, Continue)
        return state is not None and state.plan == plan.digest

    def record_plan(self, plan: Plan, description: str, metadata: dict[str, Any]) -> None:
        """Store a plan; it is the plan from now on.

        Args:
            plan: the plan.
            description: one paragraph for people.
            metadata: tables for people.
        """
        text = plan.model_dump_json()
        stored: dict[str, Any]
        if len(text.encode()) <= _INLINE_PLAN_BYTES:
            stored = {_PLAN: dg.MetadataValue.json(plan.model_dump(mode="json"))}
        else:
            path = migration_folder(self.instance, self.migration_id) / f"plan-{plan.generation:04}.json"
            path.write_text(text, encoding="utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            stored = {_PLAN_FILE: dg.MetadataValue.json({"path": str(path), "sha256": digest})}
        with storage():
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    asset_key=names.plan_asset(self.migration_id),
                    description=description,
                    metadata={**metadata, **stored},
                )
            )

    def plan(self) -> Plan | None:
        """The stored plan.

        Raises:
            PlanOutdated: its file is gone or was changed.
        """
        with storage():
            records = self.instance.fetch_materializations(names.plan_asset(self.migration_id), limit=1).records
        if not records or records[0].asset_materialization is None:
            return None
        metadata = records[0].asset_materialization.metadata
        if _PLAN in metadata:
            return Plan.model_validate(metadata[_PLAN].value)
        return self._plan_from_file(metadata[_PLAN_FILE].value)

    def require_plan(self) -> Plan:
        """The stored plan.

        Raises:
            PlanOutdated: there is none.
        """
        plan = self.plan()
        if plan is None:
            raise PlanOutdated(
                f"migration '{self.migration_id}' has no plan; make one with 'vectormigrate plan {self.migration_id}' "
                f"or the job '{names.plan_job_name(self.migration_id)}'"
            )
        return plan

    def runs(self, limit: int = 20) -> list[dg.DagsterRun]:
        """The newest runs of this migration, newest first."""
        with storage():
            records = self.instance.get_run_records(
                dg.RunsFilter(tags={names.MIGRATION_TAG: self.migration_id}), limit=limit
            )
        return [record.dagster_run for record in records]

    def _plan_from_file(self, stored: Any) -> Plan:
        path = migration_folder(self.instance, self.migration_id) / str(stored["path"]).rsplit("/", 1)[-1]
        advice = f"make a new one with 'vectormigrate plan {self.migration_id} --replan'"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise PlanOutdated(f"the plan's file '{path}' cannot be read; {advice}") from error
        if hashlib.sha256(text).hexdigest() != stored["sha256"]:
            raise PlanOutdated(f"the plan's file '{path}' was changed since it was written; {advice}")
        return Plan.model_validate_json(text)

    def _get(self, key: str, model: type[Document]) -> Document | None:
        value = self._documents.get(key)
        return None if value is None else model.model_validate(value)

    def _read_newest(self) -> None:
        newest = self.instance.get_latest_storage_id_by_partition(self._asset, DagsterEventType.ASSET_OBSERVATION)
        ids = sorted(newest.values())
        for start in range(0, len(ids), _PAGE):
            chosen = dg.AssetRecordsFilter(asset_key=self._asset, storage_ids=ids[start : start + _PAGE])
            self._take(self.instance.fetch_observations(chosen, limit=_PAGE).records)
        self._cursor = ids[-1] if ids else None

    def _read_since(self, cursor: int) -> None:
        while True:
            chosen = dg.AssetRecordsFilter(asset_key=self._asset, after_storage_id=cursor)
            records = self.instance.fetch_observations(chosen, limit=_PAGE, ascending=True).records
            self._take(records)
            if records:
                cursor = records[-1].storage_id
                self._cursor = cursor
            if len(records) < _PAGE:
                return

    def _take(self, records: Any) -> None:
        for record in records:
            observation = record.asset_observation
            if observation is not None and observation.partition is not None:
                self._documents[observation.partition] = observation.metadata[_DOCUMENT].value


def report_dead(instance: dg.DagsterInstance, run_id: str, reason: str) -> None:
    """Mark a run as failed whose process is gone; nothing happens if it is finished or deleted."""
    with storage():
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, reason)


@contextmanager
def storage() -> Iterator[None]:
    """Turn what Dagster's storage says into an error of ours.

    Raises:
        StorageFailed: it cannot be read or written.
    """
    try:
        yield
    except OperationalError as error:
        raise StorageFailed(
            f"Dagster's storage refused to be read or written: {error.orig}; "
            "make room or mend it, then run the same command again: it goes on where it stopped"
        ) from error
