"""The ops of every migration: module-level, shared by all jobs. They pass small manifests, never vectors."""

# Dagster reads the annotations of ops and checks when they are defined: they may not be put off.
from contextlib import closing
from enum import StrEnum
from functools import partial

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.bulk import after_partition, put_back_if_it_fails
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import partition_check, partition_materialization, publish
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.journal import known_journal, open_journal, require_source_is_primary
from vectormigrate_dagster.defs.live import JournalMotion, note_live, settle_state, tolerance_now
from vectormigrate_dagster.defs.planning import plan_migration, summary, tables
from vectormigrate_dagster.defs.recorder import Recorder
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import CONTINUE, Continue
from vectormigrate_dagster.defs.target import ownership_of, prepare_target, sent_of
from vectormigrate_dagster.defs.throttling import found_of, throttle_of
from vectormigrate_dagster.defs.waiting import teller
from vectormigrate_dagster.defs.work import Manifest, PartitionWork, explained, require_planned
from vectormigrate_dagster.errors import PlanOutdated, ValidationFailed
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import CollectionSchema
from vectormigrate_dagster.transfer.pipeline import Settings, transfer_split
from vectormigrate_dagster.validation import validate_split
from vectormigrate_dagster.validation.tolerance import tolerance_of

MANIFEST = dg.DagsterType(
    name="Manifest",
    type_check_fn=lambda _, value: isinstance(value, dict),
    description="A partition's key and the plan's digest; records and vectors never pass between ops.",
)
_VALIDATED_RECORDS = 100
"""Records of a partition that its run reads back; the whole migration is validated by its own job."""


class Mode(StrEnum):
    """Where a partition's run begins; Dagster's configuration takes the names of the members."""

    resume = "resume"
    restart = "restart"


class RangeConfig(dg.Config):
    """How a partition's run begins."""

    mode: Mode = Field(default=Mode.resume, description="resume at the last checkpoint, or restart at the beginning")


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


@dg.op(
    description="Find the split of this partition and the checkpoint to go on from; take its lease.",
    out=dg.Out(MANIFEST),
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
        work = PartitionWork(context, migration, lease)
        restart = config.mode is Mode.restart
        if work.done and not restart:
            context.log.info(f"{work.split}: done before; this run only checks a sample")
        else:
            state = work.state(restart=restart)
            Recorder(work.log, work.key, state).write("loading")
            context.log.info(f"{work.split}; begins after {state.after or 'its start'}")
        return work.manifest


@dg.op(
    description="Check that the source still has the schema that the plan maps.",
    ins={"id_range": dg.In(MANIFEST)},
    out=dg.Out(MANIFEST),
)
def map_schema(
    context: dg.OpExecutionContext,
    id_range: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> Manifest:
    """Check that the source still has the schema that the plan maps."""
    with explained():
        work = PartitionWork(context, migration, lease, id_range)
        plan = work.plan
        with put_back_if_it_fails(work.log, plan, target), Recorder(work.log, work.key, work.state()).outcome():
            require_planned(source, plan.source)
            throttle = throttle_of(work.log, migration.transfer)
            with source.open_source(sleep=throttle.interrupt.sleep) as opened:
                found = throttle.source.call(opened.describe)
            changed = _schema_changes(found, plan.mapping.source_schema)
            if changed:
                raise PlanOutdated(
                    f"the {', '.join(changed)} of '{found.name}' in the source changed since the plan was made; "
                    f"make a new plan with 'vectormigrate plan {migration.id} --replan'"
                )
        context.add_output_metadata({"mapping": plan.mapping.digest, **plan.loss.counts()})
        return id_range


@dg.op(
    description="Read, map and write the records of the partition, from its checkpoint to its end.",
    ins={"mapped": dg.In(MANIFEST)},
    out=dg.Out(MANIFEST),
)
def load_batches(
    context: dg.OpExecutionContext,
    config: LoadConfig,
    mapped: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> Manifest:
    """Read, map and write the records of the partition."""
    with explained():
        work = PartitionWork(context, migration, lease, mapped)
        if work.done:
            return mapped
        plan = work.plan
        settings = migration.transfer.model_copy(update=config.model_dump(exclude_none=True))
        throttle = throttle_of(work.log, settings)
        recorder = Recorder(work.log, work.key, work.state(), every=settings.checkpoint_seconds, throttle=throttle)
        sleep = throttle.interrupt.sleep
        with (
            put_back_if_it_fails(work.log, plan, target),
            recorder.outcome(),
            open_journal(context.instance, migration, plan) as journal,
            source.open_source(sleep=sleep) as opened,
            target.open_target(sleep=sleep) as written,
            SplitGuard(journal, work.key, work.split) as guard,
        ):
            require_source_is_primary(journal)
            require_planned(source, plan.source)
            require_planned(target, plan.target)
            throttle.target.call(written.probe)
            whose = throttle.target.call(partial(prepare_target, work.log, plan, migration, written))
            settle_state(work.log, plan, journal)
            checkpoints = transfer_split(
                source=opened,
                target=written,
                mapper=RecordMapper(plan.mapping),
                split=work.split,
                after=recorder.state.after,
                settings=Settings(batch_records=settings.batch_records),
                found=found_of(plan.digest),
                on_conflict=settings.on_conflict,
                ownership=ownership_of(work.log, plan, work.key, whose),
                sent=sent_of(work.log, work.key, whose),
                guard=guard,
                throttle=throttle,
                stop=recorder.should_stop,
                verify_every=settings.validate_every,
                tolerance=tolerance_of(
                    plan.mapping.target_schema, written.capabilities, migration.validation.min_cosine
                ),
            )
            with closing(checkpoints):
                for checkpoint in checkpoints:
                    recorder.take(checkpoint)
            recorder.reached_end()
        context.log.info(f"{recorder.state.acknowledged:,} records acknowledged")
        return mapped


@dg.op(
    description="Read a sample of the partition back from both sides, compare, and mark the partition as done.",
    ins={"loaded": dg.In(MANIFEST)},
)
def validate_samples(
    context: dg.OpExecutionContext,
    loaded: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Read a sample of the partition back from both sides, compare, and mark the partition as done."""
    with explained():
        work = PartitionWork(context, migration, lease, loaded)
        plan = work.plan
        throttle = throttle_of(work.log, migration.transfer)
        recorder = Recorder(work.log, work.key, work.state(), throttle=throttle)
        sleep = throttle.interrupt.sleep
        with (
            put_back_if_it_fails(work.log, plan, target),
            recorder.outcome(),
            known_journal(context.instance, migration) as journal,
            source.open_source(sleep=sleep) as opened,
            target.open_target(sleep=sleep) as written,
        ):
            if not (recorder.state.loaded or work.done):
                raise PlanOutdated(
                    f"partition '{work.key}' is not loaded to its end; launch job '{context.job_name}' on it, which "
                    "goes on at its checkpoint"
                )
            result = validate_split(
                opened,
                written,
                RecordMapper(plan.mapping),
                work.split,
                size=_VALIDATED_RECORDS,
                exceptions=exceptions_of(work.log, plan, [work.key], journal=journal),
                tolerance=tolerance_now(plan, migration, opened.capabilities, written.capabilities, journal),
                throttle=throttle,
                last=recorder.state.after,
                motion=JournalMotion.of(journal),
            )
            publish(context, partition_check(migration.id, work.key, result))
            if not result.passed:
                raise ValidationFailed(
                    f"partition '{work.key}' differs from the source: {result.statement}; "
                    f"load it again: launch job '{context.job_name}' on it with mode: restart"
                )
            total = sum(state.acknowledged for state in work.log.partitions(plan).values())
            publish(
                context,
                partition_materialization(
                    migration.id, work.key, recorder.state, result, split=str(work.split), total=total
                ),
            )
            recorder.write("done")
        with open_journal(context.instance, migration, plan) as journal:
            settle_state(work.log, plan, journal)
            note_live(work.log, plan, journal)
        after_partition(work.log, plan, target, throttle)


@dg.op(description="Look at both sides, map the schema, draw the splits and store the plan; write to neither side.")
def make_plan(
    context: dg.OpExecutionContext,
    config: PlanConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Look at both sides, map the schema, draw the splits and store the plan."""
    with explained():
        lease.take(context.instance, migration.id)
        plan = plan_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            profile="full" if config.full_profile else "sample",
            replan=config.replan,
            adopt=config.adopt,
            tell=teller(context),
        )
        if context.run_tags.get(names.CONTINUE_TAG) == "load":
            MigrationLog(context.instance, migration.id).record(CONTINUE, _wish(context, plan.digest))
        context.add_output_metadata(tables(plan))
        context.log.info(summary(plan))


def _wish(context: dg.OpExecutionContext, plan: str) -> Continue:
    """The wish that the load follow, as old as its run: who says stop while that runs has said it later."""
    principal = context.run_tags.get(names.PRINCIPAL_TAG)
    record = context.instance.get_run_record_by_id(context.run_id)
    if record is None:  # deleted meanwhile
        return Continue(plan=plan, principal=principal)
    return Continue(plan=plan, principal=principal, at=record.create_timestamp)


def _schema_changes(found: CollectionSchema, planned: CollectionSchema) -> list[str]:
    """What of a schema is not as it was planned: ids, vectors, declared fields."""
    changes = {
        "ids": found.ids != planned.ids,
        "vectors": found.vectors != planned.vectors,
        "fields": [f for f in found.fields if f.declared] != [f for f in planned.fields if f.declared],
    }
    return [what for what, changed in changes.items() if changed]
