"""Checks when partitions begin by themselves, and that one which waits for its turn counts as work."""

from __future__ import annotations

from datetime import timedelta

import pytest

from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.automation import may_begin
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.defs.state import Continue, PartitionState, Phase
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster_tests.harness import ID, Workplace

WISH = Continue(plan="plan")


def state(phase: Phase, seconds: float, attempt: int = 1) -> PartitionState:
    """The state of a partition, so many seconds after the wish."""
    at = WISH.at + timedelta(seconds=seconds)
    return PartitionState(plan="plan", state=phase, run_id="run", attempt=attempt, at=at)


def test_what_nobody_has_begun_may_begin() -> None:
    assert may_begin(None, WISH)


@pytest.mark.parametrize("phase", ["stopped", "failed", "lost"])
def test_what_ended_before_somebody_asked_may_begin_again(phase: Phase) -> None:
    assert may_begin(state(phase, -1, attempt=9), WISH)


def test_what_ended_since_waits_for_a_person_unless_it_died() -> None:
    assert not may_begin(state("stopped", 1), WISH)
    assert not may_begin(state("failed", 1), WISH)
    assert may_begin(state("lost", 1, attempt=4), WISH)
    assert not may_begin(state("lost", 1, attempt=5), WISH)


def test_a_partition_that_waits_for_its_turn_is_in_progress(place: Workplace) -> None:
    context = Context(place.migrations, place.home)
    plan(context, ID)
    assert status(context, ID).status == "planned"
    with open_home(place.home) as instance:
        run = instance.create_run_for_job(
            load_job(context.migration(ID)),
            tags={names.MIGRATION_TAG: ID},
        )
        waiting = status(context, ID)
        instance.report_run_canceled(run)

    assert (waiting.status, waiting.runs[0]) == ("in_progress", run.run_id)
    assert status(context, ID).status == "planned"
