"""The processes of the migration itself: those that load, catch up and switch over, made of the live layer directly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal

from vectormigrate_dagster import databases
from vectormigrate_dagster.errors import DatabaseError, LeaseHeld
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.cutover import Cutover
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.mapping.plan import PlannedSplit
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.transfer.limits import BatchSize
from vectormigrate_dagster.transfer.pipeline import Settings, transfer_split
from vectormigrate_dagster.transfer.throttle import Retry, Throttle
from vectormigrate_dagster_tests.live.chaos.world import World

_BATCH_RECORDS = 10
_LEASE_MARGINS = 3.0
"""Leases are so many margins long, of which the last one is never used."""

_KEYS_PER_STEP = 100
_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.2
"""Where there is nothing to do; each look at an empty journal costs the others of a busy machine 4 ms.

After a step that found something it rests once: it would carry over each change by itself otherwise.
"""


def load(world: World, name: str, number: int, of: int) -> None:
    """Load every `of`-th split, from the `number`-th on; each from its checkpoint on."""
    for planned in world.plan.splits[number::of]:
        while not world.flag(f"loaded {planned.key}").exists():
            try:
                _load(world, planned)
            except (DatabaseError, LeaseHeld) as error:
                print(f"{planned.key}: {error}", flush=True)  # noqa: T201  # into the file of this process


def _load(world: World, planned: PlannedSplit) -> None:
    kept = world.folder / f"{planned.key}.checkpoint"
    with databases.open_source(world.source) as source, databases.open_target(world.target) as target:
        checkpoints = transfer_split(
            source=source,
            target=target,
            mapper=RecordMapper(world.plan.mapping),
            split=planned.split,
            after=kept.read_text() if kept.exists() else None,
            settings=Settings(batch_records=_BATCH_RECORDS, page_records=2 * _BATCH_RECORDS),
            guard=SplitGuard(world.journal(), planned.key, planned.split, seconds=_lease(world)),
            throttle=_throttle(),
        )
        with closing(checkpoints):
            for checkpoint in checkpoints:
                _replace(kept, checkpoint.after)
    world.flag(f"loaded {planned.key}").touch()


def _throttle() -> Throttle:
    """One that repeats calls soon: a run lasts seconds."""
    return Throttle(
        source=Retry(first_seconds=0.05, longest_seconds=0.5),
        target=Retry(first_seconds=0.05, longest_seconds=0.5),
        batch=BatchSize(_BATCH_RECORDS),
    )


def _replace(file: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def catch_up(world: World, name: str) -> None:
    """Bring the other side up to date until somebody ends this process."""
    with both_sides(world) as sides:
        catching = catching_up(world, name, world.journal(), sides)
        idle = 0
        while True:
            try:
                step = catching.step()
            except (DatabaseError, LeaseHeld) as error:
                print(error, flush=True)  # noqa: T201
                continue
            for one in step.listed:
                print(f"not equal: {one}", flush=True)  # noqa: T201
            idle = 1 if step.consumed else idle + 1
            time.sleep(min(_POLL_SECONDS * idle, _LONGEST_POLL_SECONDS))


def cutover(world: World, name: str, direction: Literal["there", "back"]) -> None:
    """Switch to the other side, and end once that is done."""
    journal = world.journal()
    with both_sides(world) as sides:
        coordinator = coordinating(world, name, journal, sides)
        make = coordinator.run if direction == "there" else coordinator.reverse
        while True:
            try:
                ended = make(by=name, reason="chaos")
            except (DatabaseError, LeaseHeld) as error:
                print(error, flush=True)  # noqa: T201
                continue
            if ended.done:
                return
            print(ended, flush=True)  # noqa: T201


@contextmanager
def both_sides(world: World) -> Iterator[Sides]:
    """Both sides, opened for one process."""
    with ExitStack() as stack:
        source = stack.enter_context(databases.open_source(world.source))
        target = stack.enter_context(databases.open_target(world.target))
        sides = Sides(
            world.plan.mapping,
            source=source,
            target=target,
            open_source=lambda: databases.open_target(world.source),
            throttle=_throttle(),
        )
        stack.callback(sides.close)
        yield sides


def catching_up(world: World, name: str, journal: Journal, sides: Sides) -> CatchUp:
    """What catches up."""
    return CatchUp(journal, sides, holder=name, lease_seconds=_lease(world), keys_per_step=_KEYS_PER_STEP)


def coordinating(world: World, name: str, journal: Journal, sides: Sides) -> Cutover:
    """What switches over."""
    splits = {planned.key: planned.split for planned in world.plan.splits}
    return Cutover(journal, catching_up(world, name, journal, sides), Verification(journal, sides, splits))


def _lease(world: World) -> float:
    return _LEASE_MARGINS * world.bounds.margin
