"""The ops of every migration: module-level, shared by all jobs. They pass small manifests, never vectors."""

# Dagster reads the annotations of ops and checks when they are defined: they may not be put off.
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog, report_dead
from vectormigrate_dagster.defs.evidence import partition_check, partition_materialization, publish
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.planning import plan_migration, require_current, summary, tables
from vectormigrate_dagster.defs.recorder import Recorder
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import CONTINUE, Continue, PartitionState, now
from vectormigrate_dagster.defs.target import ownership_of, prepare_target
from vectormigrate_dagster.defs.validating import validate_migration
from vectormigrate_dagster.errors import PlanOutdated, ValidationFailed, VectorMigrateError
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import CollectionSchema, Split
from vectormigrate_dagster.transfer.pipeline import Settings, transfer_split
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation import validate_split
from vectormigrate_dagster.validation.tolerance import tolerance_of

Manifest = dict[str, Any]
_MANIFEST = dg.DagsterType(
    name="Manifest",
    type_check_fn=lambda _, value: isinstance(value, dict),
    description="A partition's key, split and state, as JSON; records and vectors never pass between ops.",
)
_AUTO_BATCH = 1000
_VALIDATED_RECORDS = 100
"""Records of a partition that its run reads back; the whole migration is validated by its own job."""


class Mode(StrEnum):
    """Where a partition's run begins."""

    RESUME = "resume"
    RESTART = "restart"


class RangeConfig(dg.Config):
    """How a partition's run begins."""

    mode: Mode = Field(default=Mode.RESUME, description="resume at the last checkpoint, or restart at the beginning")


class LoadConfig(dg.Config):
    """Settings of a run that differ from the migration file."""

    batch_size: int | None = Field(default=None, description="records per batch; empty: as in the migration file")
    max_retries: int | None = Field(default=None, description="retries of a call; empty: as in the migration file")
    validate_every: int | None = Field(default=None, description="batches; empty: as in the migration file")


class PlanConfig(dg.Config):
    """How to plan."""

    full_profile: bool = Field(default=False, description="look at every record of the source, not at a sample")
    replan: bool = Field(default=False, description="start a new generation although there is a plan")
    adopt: bool = Field(default=False, description="keep what the generation before wrote into the target")


class ValidateConfig(dg.Config):
    """How much to validate."""

    sample_size: int | None = Field(default=None, description="records to compare; empty: every record")


@dg.op(
    description="Find the split of this partition and the checkpoint to go on from; take its lease.",
    out=dg.Out(_MANIFEST),
)
def extract_id_range(
    context: dg.OpExecutionContext,
    config: RangeConfig,
    *,
    migration: dg.ResourceParam[Migration],
    lease: WorkLease,
) -> Manifest:
    """Find the split of this partition and the checkpoint to go on from."""
    with explained():
        log = MigrationLog(context.instance, migration.id)
        plan = log.require_plan()
        require_current(plan, migration)
        key = _partition_key(context, plan)
        split = next(planned.split for planned in plan.splits if planned.key == key)
        lease.take(context.instance, migration.id, key)
        log.refresh()
        known = log.partitions(plan).get(key)
        if known is not None and known.state == "loading":
            known = _lost(log, key, known)
        restart = config.mode is Mode.RESTART
        fresh = PartitionState(plan=plan.digest, state="loading", run_id=context.run_id)
        state = fresh
        if known is not None:
            state = known.model_copy(
                update={"run_id": context.run_id, "attempt": known.attempt + 1, "resumed_from": known.after}
            )
            if restart:
                state = fresh.model_copy(update={"attempt": known.attempt + 1, "started_at": known.started_at})
        context.log.info(f"{split}; begins after {state.after or 'its start'}")
        return {
            "key": key,
            "plan": plan.digest,
            "split": split.model_dump(mode="json"),
            "state": state.model_dump(mode="json"),
            "load": restart or known is None or known.state != "done",
        }


@dg.op(
    description="Check that the source still has the schema that the plan maps.",
    ins={"id_range": dg.In(_MANIFEST)},
    out=dg.Out(_MANIFEST),
)
def map_schema(
    context: dg.OpExecutionContext,
    id_range: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
) -> Manifest:
    """Check that the source still has the schema that the plan maps."""
    with explained():
        plan = MigrationLog(context.instance, migration.id).require_plan()
        _require_planned(source, plan.source)
        with source.open_source() as opened:
            found = opened.describe()
        planned = plan.mapping.source_schema
        changed = _schema_changes(found, planned)
        if changed:
            raise PlanOutdated(
                f"the {', '.join(changed)} of '{found.name}' in the source changed since the plan was made; "
                f"make a new plan with 'vectormigrate plan {migration.id} --replan'"
            )
        context.add_output_metadata({"mapping": plan.mapping.digest, **plan.loss.counts()})
        return id_range


@dg.op(
    description="Read, map and write the records of the partition, from its checkpoint to its end.",
    ins={"mapped": dg.In(_MANIFEST)},
    out=dg.Out(_MANIFEST),
)
def load_batches(
    context: dg.OpExecutionContext,
    config: LoadConfig,
    mapped: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
) -> Manifest:
    """Read, map and write the records of the partition."""
    if not mapped["load"]:
        context.log.info("this partition is done; nothing to load")
        return mapped
    with explained():
        log = MigrationLog(context.instance, migration.id)
        plan = log.require_plan()
        _require_planned(source, plan.source)
        _require_planned(target, plan.target)
        settings = migration.transfer.model_copy(update=config.model_dump(exclude_none=True))
        records = _AUTO_BATCH if settings.batch_size == "auto" else settings.batch_size
        throttle = Throttle.of(max_retries=settings.max_retries, batch_records=records, rate=settings.rate_limit)
        log.refresh()
        recorder = Recorder(
            log,
            mapped["key"],
            PartitionState.model_validate(mapped["state"]),
            every=settings.checkpoint_seconds,
            throttle=throttle,
        )
        recorder.write("loading")
        with recorder.outcome(), source.open_source() as opened, target.open_target() as written:
            whose = prepare_target(log, plan, migration, written)
            for checkpoint in transfer_split(
                source=opened,
                target=written,
                mapper=RecordMapper(plan.mapping),
                split=Split.model_validate(mapped["split"]),
                after=recorder.state.after,
                settings=Settings(batch_records=records),
                on_conflict=settings.on_conflict,
                ownership=ownership_of(context.instance, migration.id, mapped["key"], whose),
                throttle=throttle,
                stop=recorder.should_stop,
                verify_every=settings.validate_every,
                tolerance=tolerance_of(
                    plan.mapping.target_schema, written.capabilities, migration.validation.min_cosine
                ),
            ):
                recorder.take(checkpoint)
            recorder.write("loading")
        context.log.info(f"{recorder.state.acknowledged:,} records acknowledged")
        return {**mapped, "state": recorder.state.model_dump(mode="json")}


@dg.op(
    description="Read a sample of the partition back from both sides, compare, and mark the partition as done.",
    ins={"loaded": dg.In(_MANIFEST)},
)
def validate_samples(
    context: dg.OpExecutionContext,
    loaded: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
) -> None:
    """Read a sample of the partition back from both sides, compare, and mark the partition as done."""
    with explained():
        log = MigrationLog(context.instance, migration.id)
        plan = log.require_plan()
        log.refresh()
        split = Split.model_validate(loaded["split"])
        recorder = Recorder(log, loaded["key"], PartitionState.model_validate(loaded["state"]))
        with recorder.outcome(), source.open_source() as opened, target.open_target() as written:
            result = validate_split(
                opened,
                written,
                RecordMapper(plan.mapping),
                split,
                size=_VALIDATED_RECORDS,
                exceptions=exceptions_of(log, plan, [loaded["key"]]),
                tolerance=tolerance_of(
                    plan.mapping.target_schema, written.capabilities, migration.validation.min_cosine
                ),
            )
            publish(context, partition_check(migration.id, loaded["key"], result))
            if not result.passed:
                raise ValidationFailed(
                    f"partition '{loaded['key']}' differs from the source: {result.statement}; "
                    "load it again with mode: RESTART"
                )
            total = sum(state.acknowledged for state in log.partitions(plan).values())
            publish(
                context,
                partition_materialization(
                    migration.id, loaded["key"], recorder.state, result, split=str(split), total=total
                ),
            )
            recorder.write("done")


@dg.op(description="Look at both sides, map the schema, draw the splits and store the plan; write to neither side.")
def make_plan(
    context: dg.OpExecutionContext,
    config: PlanConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
) -> None:
    """Look at both sides, map the schema, draw the splits and store the plan."""
    with explained():
        plan = plan_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            profile="full" if config.full_profile else "sample",
            replan=config.replan,
            adopt=config.adopt,
        )
        if context.run_tags.get(names.CONTINUE_TAG) == "load":
            MigrationLog(context.instance, migration.id).record(CONTINUE, Continue(plan=plan.digest))
        context.add_output_metadata(tables(plan))
        context.log.info(summary(plan))


@dg.op(description="Compare source and target, tier by tier; fails if they differ.")
def validate_all(
    context: dg.OpExecutionContext,
    config: ValidateConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
) -> None:
    """Compare source and target, tier by tier."""
    with explained():
        report = validate_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            sample_size=config.sample_size,
            full=config.sample_size is None,
            publish=partial(publish, context),
        )
        context.add_output_metadata({tier.tier: tier.statement for tier in report.tiers})
        if not report.passed:
            raise ValidationFailed("; ".join(t.statement for t in report.tiers if not t.passed))


@contextmanager
def explained() -> Iterator[None]:
    """Show what went wrong as the failure of the step, once: what we raise is never mended by a retry of the step."""
    try:
        yield
    except VectorMigrateError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def _partition_key(context: dg.OpExecutionContext, plan: Plan) -> str:
    """The run's partition key, if it is one of the plan's.

    Raises:
        PlanOutdated: the run has none, or the plan does not have it.
    """
    keys = [planned.key for planned in plan.splits]
    known = f"keys of the plan run from '{keys[0]}' to '{keys[-1]}'"
    if not context.has_partition_key:
        raise PlanOutdated(f"this job runs on one partition; launch it with a partition key ({known})")
    if context.partition_key not in keys:
        raise PlanOutdated(f"'{context.partition_key}' is not a partition of generation {plan.generation}; {known}")
    return context.partition_key


def _require_planned(side: DatabaseResource, planned: str) -> None:
    """Refuse a collection that the Launchpad was told to use instead of the planned one.

    Raises:
        PlanOutdated: the plan is for another collection.
    """
    given = str(side.endpoint())
    if given != planned:
        raise PlanOutdated(f"this run was given {given}, the plan is for {planned}; leave its resources as they are")


def _lost(log: MigrationLog, key: str, state: PartitionState) -> PartitionState:
    """Note that the run that was loading a partition is dead: it would have to hold the lease that we hold."""
    report_dead(log.instance, state.run_id, f"the process that was loading partition '{key}' is gone")
    lost = state.model_copy(update={"state": "lost", "at": now(), "error": "the process that was loading it is gone"})
    log.record(key, lost)
    return lost


def _schema_changes(found: CollectionSchema, planned: CollectionSchema) -> list[str]:
    """What of a schema is not as it was planned: ids, vectors, declared fields."""
    changes = {
        "ids": found.ids != planned.ids,
        "vectors": found.vectors != planned.vectors,
        "fields": [f for f in found.fields if f.declared] != [f for f in planned.fields if f.declared],
    }
    return [what for what, changed in changes.items() if changed]
