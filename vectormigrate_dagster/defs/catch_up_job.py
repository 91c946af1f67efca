"""The job `<id>_catch_up`: carry over what the application changes while its collection moves.

Its partitions are ranges of the journal, which are names for people: a run deals with whatever is due, because any run
may, under the leases of the journal.
"""

# Dagster reads the annotations of ops when they are defined: they may not be put off.
from typing import Any

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.catching_up import Caught, catch_up_migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import publish
from vectormigrate_dagster.defs.jobs import changes_of, job_of, title
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.work import explained, require_planned
from vectormigrate_dagster.model.counting import counted

_RUN_SECONDS = 600.0
"""How long a run goes on while changes keep coming: the next one costs seconds to start."""

_LINGER_SECONDS = 60.0
"""How long a run waits for more after the last change: one every few seconds would otherwise launch runs all day."""


class CatchUpConfig(dg.Config):
    """How long to go on."""

    seconds: float = Field(default=_RUN_SECONDS, gt=0, description="at most, while changes keep coming")
    linger: float = Field(default=_LINGER_SECONDS, ge=0, description="seconds to wait for more after the last change")


@dg.op(description="Carry over what the journal says has changed and is settled; without any, write nothing.")
def carry_over(
    context: dg.OpExecutionContext,
    config: CatchUpConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Carry changes over."""
    with explained():
        lease.take(context.instance, migration.id)
        plan = MigrationLog(context.instance, migration.id).require_plan()
        require_planned(source, plan.source)
        require_planned(target, plan.target)
        caught = catch_up_migration(
            context.instance,
            migration,
            source.endpoint(),
            target.endpoint(),
            until="due",
            seconds=config.seconds,
            linger=config.linger,
        )
        metadata = _metadata(caught)
        context.add_output_metadata(metadata)
        context.log.info(_sentence(caught))
        if context.has_partition_key:
            event = dg.AssetMaterialization(
                asset_key=names.changes_asset(migration.id),
                partition=context.partition_key,
                description=_sentence(caught),
                metadata=metadata,
            )
            publish(context, event)


@dg.graph(description="Bring the other side up to date with what the application has changed.")
def catch_up_graph() -> None:
    """Catch up."""
    carry_over()


def catch_up_job(migration: Migration) -> dg.JobDefinition:
    """The job that carries changes over; a partition is a range of the journal."""
    return job_of(
        catch_up_graph,
        migration,
        name=names.catch_up_job_name(migration.id),
        phase="catch_up",
        description=f"Carry over what the application has changed, {title(migration)}. Running it again does no harm.",
        partitions_def=changes_of(migration),
        # Before the partitions that wait in the queue: what is behind grows, what is to be moved does not.
        tags={"dagster/priority": "1"},
    )


def _metadata(caught: Caught) -> dict[str, Any]:
    live, began = caught.live, caught.began
    unmoved = [f"{one.key.text}: {one.outcome.value}: {one.reason}" for one in caught.unmoved]
    return {
        "carried": caught.carried,
        "lag_records": began.lag_records,
        "lag_seconds": began.lag_seconds,
        "lag_records_at_the_end": live.lag_records,
        "lag_seconds_at_the_end": live.lag_seconds,
        "open_writes": live.open,
        "state": live.state,
        "primary": live.primary,
        **{outcome.value: number for outcome, number in caught.outcomes.items()},
        **({"not_alike": dg.MetadataValue.md("\n".join(f"- {line}" for line in unmoved))} if unmoved else {}),
    }


def _sentence(caught: Caught) -> str:
    live = caught.live
    behind = f"{counted(live.lag_records, 'change')} behind" if live.lag_records else "level"
    return f"{counted(caught.carried, 'change')} carried over; {behind}"
