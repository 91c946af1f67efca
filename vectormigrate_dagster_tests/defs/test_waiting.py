"""Contract of waits that may take minutes: they say so, anybody may end them, and no wait costs nothing."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from vectormigrate_dagster.defs import waiting
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.signals import graceful, request_stop
from vectormigrate_dagster.defs.state import CONTROL, now
from vectormigrate_dagster.defs.waiting import wait_until_quiet
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster_tests.harness import ID


@pytest.fixture
def log(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> MigrationLog:
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.0)
    return MigrationLog(instance, ID)


def stop(log: MigrationLog) -> None:
    log.record(CONTROL, log.control().model_copy(update={"stop_requested_at": now()}))


def test_what_is_quiet_is_not_spoken_of(log: MigrationLog) -> None:
    said: list[str] = []
    wait_until_quiet(log, lambda: 0.0, tell=said.append)
    assert said == []


def test_a_wait_is_over_as_soon_as_somebody_else_has_ended_well(log: MigrationLog) -> None:
    left, said = iter([125.0, 124.9, 0.0]), list[str]()
    wait_until_quiet(log, lambda: next(left), tell=said.append)
    (line,) = said
    assert line.startswith("waiting for about 125 s: what was sent before may arrive at the target until then")


@pytest.mark.parametrize("how", ["a signal", "the command"])
def test_a_wait_can_be_ended(log: MigrationLog, how: str) -> None:
    asked: dict[str, Callable[[], None]] = {
        "a signal": request_stop,
        "the command": lambda: stop(log),
    }
    with graceful(), pytest.raises(Stopped, match=r"asked to end|stopped on request; what was done is recorded"):
        wait_until_quiet(log, lambda: 125.0, tell=lambda _: asked[how]())


def test_a_wish_of_before_ends_no_wait(log: MigrationLog) -> None:
    stop(log)
    left = iter([1.0, 0.1, 0.0])
    wait_until_quiet(log, lambda: next(left), tell=[].append)
    assert list(left) == []
