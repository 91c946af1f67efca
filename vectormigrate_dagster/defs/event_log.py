"""The only reader and writer of a migration's state, which is kept in Dagster's event log.

State is run-less observations of the asset `<id>/state`, one partition per key, so that deleting a run in the
UI deletes no state; the newest of each key wins. The plan is a run-less materialization of `<id>/plan`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from dagster._core.events import DagsterEventType
from pydantic import BaseModel

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.state import (
    CONTINUE,
    CONTROL,
    LIVE,
    POLL,
    SINCE_LOAD,
    VALIDATION,
    VALIDATION_ROUND,
    Continue,
    Control,
    LiveState,
    PartitionState,
    PartitionValidation,
    PlanSummary,
    PollState,
    RollbackState,
    SinceLoad,
    TargetState,
    ValidationRound,
    ValidationState,
    partition_validation_key,
    rollback_key,
    target_key,
)
from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.errors import PlanOutdated, StorageFailed

if TYPE_CHECKING:
    from vectormigrate_dagster.mapping.plan import Plan

_DOCUMENT = "state"
_PLAN = "plan"
_SUMMARY = "summary"
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
        self._models: dict[str, tuple[Any, BaseModel]] = {}
        self._ids: dict[str, int] = {}
        self._plan: tuple[int, Plan] | None = None

    def refresh(self) -> None:
        """Read the documents that are newer than those in memory."""
        with storage():
            newest = self.instance.get_latest_storage_id_by_partition(self._asset, DagsterEventType.ASSET_OBSERVATION)
            for gone in self._ids.keys() - newest.keys():  # somebody wiped the asset
                del self._ids[gone], self._documents[gone]
                self._models.pop(gone, None)
            # Not "everything after the newest id": on Postgres an event may become visible after a later one.
            changed = sorted(event for key, event in newest.items() if self._ids.get(key) != event)
            for start in range(0, len(changed), _PAGE):
                chosen = dg.AssetRecordsFilter(asset_key=self._asset, storage_ids=changed[start : start + _PAGE])
                self._take(self.instance.fetch_observations(chosen, limit=_PAGE).records)

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

    def partitions(self, plan: Plan | PlanSummary) -> dict[str, PartitionState]:
        """The newest state of each partition of `plan` that has one."""
        digest = plan.digest
        states = {key: self._partition(digest, key) for key in plan.keys}
        return {key: state for key, state in states.items() if state is not None}

    def partition(self, plan: Plan | PlanSummary, key: str) -> PartitionState | None:
        """The newest state of one partition of `plan`, if it has one."""
        return self._partition(plan.digest, key)

    def target(self, plan: Plan | PlanSummary) -> TargetState | None:
        """Whose the target collection is, under `plan`."""
        state = self._get(target_key(plan.generation), TargetState)
        return state if state is not None and state.plan == plan.digest else None

    def rollback(self, plan: Plan | PlanSummary) -> RollbackState | None:
        """How far the rollback of what was written under `plan` is; None if none has begun."""
        state = self._get(rollback_key(plan.generation), RollbackState)
        return state if state is not None and state.plan == plan.digest and state.state != "abandoned" else None

    def not_taken_back(self, plan: Plan | PlanSummary) -> list[str]:
        """The partitions that a rollback has not been through."""
        states = self.partitions(plan)
        return [key for key in plan.keys if key not in states or states[key].state != "rolled_back"]

    def control(self) -> Control:
        """What people ask of running work."""
        return self._get(CONTROL, Control) or Control()

    def validation(self, plan: Plan | PlanSummary) -> ValidationState | None:
        """The newest validation under `plan`."""
        state = self._get(VALIDATION, ValidationState)
        return state if state is not None and state.plan == plan.digest else None

    def live(self, plan: Plan | PlanSummary) -> LiveState | None:
        """How far `plan`'s live migration was when somebody looked last; None if nobody has."""
        state = self._get(LIVE, LiveState)
        return state if state is not None and state.plan == plan.digest else None

    def since_load(self, plan: Plan | PlanSummary) -> SinceLoad:
        """What of `plan`'s records has turned out to be refused, or not to be, after they were loaded."""
        state = self._get(SINCE_LOAD, SinceLoad)
        return state if state is not None and state.plan == plan.digest else SinceLoad(plan=plan.digest)

    def poll(self, field: str) -> PollState | None:
        """How far polling `field` has come; it does not depend on a plan."""
        state = self._get(POLL, PollState)
        return state if state is not None and state.field == field else None

    def validation_round(self, plan: Plan | PlanSummary) -> ValidationRound | None:
        """The newest full validation under `plan`, concluded or not."""
        state = self._get(VALIDATION_ROUND, ValidationRound)
        return state if state is not None and state.plan == plan.digest else None

    def validated(self, plan: Plan | PlanSummary, name: str) -> dict[str, PartitionValidation]:
        """What the full validation `name` found in the partitions that it has been through.

        A partition on which work went on after that counts as not validated.
        """
        found = {}
        for key in plan.keys:
            state, moved = self._get(partition_validation_key(key), PartitionValidation), self.partition(plan, key)
            fresh = state is not None and (moved is None or moved.at < state.at)
            if state is not None and fresh and (state.plan, state.round) == (plan.digest, name):
                found[key] = state
        return found

    def continues(self, plan: Plan | PlanSummary) -> Continue | None:
        """The wish that the load follow `plan` without anybody asking again; None if somebody said stop since."""
        state, stopped = self._get(CONTINUE, Continue), self.control().stop_requested_at
        if state is None or state.plan != plan.digest:
            return None
        return state if stopped is None or stopped < state.at else None

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
            _write_durably(path, text)
            digest = hashlib.sha256(text.encode()).hexdigest()
            stored = {_PLAN_FILE: dg.MetadataValue.json({"path": str(path), "sha256": digest})}
        with storage():
            self.instance.report_runless_asset_event(
                dg.AssetMaterialization(
                    asset_key=names.plan_asset(self.migration_id),
                    description=description,
                    metadata={**metadata, **stored, _SUMMARY: dg.MetadataValue.json(_summary(plan))},
                )
            )

    def summary(self) -> PlanSummary | None:
        """What the state needs to know of the stored plan."""
        _, metadata = self._newest_plan()
        return None if metadata is None else PlanSummary.model_validate(metadata[_SUMMARY].value)

    def plan(self) -> Plan | None:
        """The stored plan.

        Raises:
            PlanOutdated: its file is gone or was changed.
        """
        # Slow to import, and only those who work by the plan need more than its summary.
        from vectormigrate_dagster.mapping.plan import Plan

        event, metadata = self._newest_plan()
        if metadata is None:
            return None
        text = None if _PLAN in metadata else self._plan_file(metadata[_PLAN_FILE].value)
        if self._plan is None or self._plan[0] != event:
            plan = Plan.model_validate(metadata[_PLAN].value) if text is None else Plan.model_validate_json(text)
            self._plan = (event, plan)
        return self._plan[1]

    def require_summary(self) -> PlanSummary:
        """What the state needs to know of the stored plan.

        Raises:
            PlanOutdated: there is none.
        """
        summary = self.summary()
        if summary is None:
            raise self._no_plan()
        return summary

    def require_plan(self) -> Plan:
        """The stored plan.

        Raises:
            PlanOutdated: there is none.
        """
        plan = self.plan()
        if plan is None:
            raise self._no_plan()
        return plan

    def _no_plan(self) -> PlanOutdated:
        return PlanOutdated(
            f"migration '{self.migration_id}' has no plan; make one with 'vectormigrate plan {self.migration_id}' "
            f"or the job '{names.plan_job_name(self.migration_id)}'"
        )

    def runs(self, limit: int = 20) -> list[dg.DagsterRun]:
        """The newest runs of this migration, newest first."""
        with storage():
            records = self.instance.get_run_records(
                dg.RunsFilter(tags={names.MIGRATION_TAG: self.migration_id}), limit=limit
            )
        return [record.dagster_run for record in records]

    def _newest_plan(self) -> tuple[int, Mapping[str, Any] | None]:
        """The number of the event that holds the plan, and its metadata."""
        with storage():
            records = self.instance.fetch_materializations(names.plan_asset(self.migration_id), limit=1).records
        materialization = records[0].asset_materialization if records else None
        return (0, None) if materialization is None else (records[0].storage_id, materialization.metadata)

    def _plan_file(self, stored: Any) -> bytes:
        path = migration_folder(self.instance, self.migration_id) / str(stored["path"]).rsplit("/", 1)[-1]
        advice = f"make a new one with 'vectormigrate plan {self.migration_id} --replan'"
        try:
            text = path.read_bytes()
        except OSError as error:
            raise PlanOutdated(f"the plan's file '{path}' cannot be read; {advice}") from error
        if hashlib.sha256(text).hexdigest() != stored["sha256"]:
            raise PlanOutdated(f"the plan's file '{path}' was changed since it was written; {advice}")
        return text

    def _partition(self, digest: str, key: str) -> PartitionState | None:
        state = self._get(key, PartitionState)
        return state if state is not None and state.plan == digest else None

    def _get(self, key: str, model: type[Document]) -> Document | None:
        value = self._documents.get(key)
        if value is None:
            return None
        # Checked once each: a migration has hundreds of partitions, and their states are asked for again and again.
        of, document = self._models.get(key, (None, None))
        if of is not value or not isinstance(document, model):
            document = model.model_validate(value)
            self._models[key] = (value, document)
        return document

    def _take(self, records: Any) -> None:
        for record in records:
            observation = record.asset_observation
            if observation is not None and observation.partition is not None:
                self._documents[observation.partition] = observation.metadata[_DOCUMENT].value
                self._ids[observation.partition] = record.storage_id


class _Last(threading.local):
    """The log that a thread has used last."""

    log: MigrationLog | None = None


_LAST = _Last()


def log_of(instance: dg.DagsterInstance, migration_id: str) -> MigrationLog:
    """The log of a migration; the same one as last time in this thread, which has read most of it before.

    A run has several ops, and a worker many runs: each would read and check the state of every partition anew.
    """
    log = _LAST.log
    if log is None or log.instance is not instance or log.migration_id != migration_id:
        log = _LAST.log = MigrationLog(instance, migration_id)
    return log


def _summary(plan: Plan) -> dict[str, Any]:
    summary = PlanSummary(
        digest=plan.digest,
        generation=plan.generation,
        created_at=plan.created_at,
        source_records=plan.source_records,
        keys=plan.keys,
        changes=plan.loss.counts(),
    )
    return summary.model_dump(mode="json")


def _write_durably(path: Path, text: str) -> None:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageFailed(f"'{path}' cannot be written: {error.strerror}; make room, then plan again") from error


def report_dead(instance: dg.DagsterInstance, run_id: str, reason: str) -> None:
    """Mark a run as failed whose process is gone; nothing happens if it is finished or deleted."""
    with storage():
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, reason)
