"""Checks that planning and validating end soon after a signal, and leave nothing half done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from vectormigrate_dagster.defs import planning
from vectormigrate_dagster.defs.signals import stop_requested
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.transfer.throttle import Interrupt
from vectormigrate_dagster.validation import whole
from vectormigrate_dagster_tests.harness import ID, Workplace, until
from vectormigrate_dagster_tests.services.conftest import context_of


def interrupted(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, at whose beginning somebody presses Ctrl-C."""

    def wrapper(*args: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        until(stop_requested)
        return call(*args, **settings)

    return wrapper


def test_a_wait_ends_with_a_signal() -> None:
    with pytest.raises(Stopped):
        in_foreground(lambda: interrupted(Interrupt(stop_requested).sleep)(3600))
    assert not stop_requested()


def test_what_the_work_returns_and_raises_comes_out() -> None:
    looked: list[bool] = []
    assert in_foreground(lambda: (until(lambda: bool(looked)), 7)[1], lambda: looked.append(True)) == 7
    with pytest.raises(ZeroDivisionError):
        in_foreground(lambda: 1 // 0)


@pytest.mark.parametrize("make", [plan, partial(migrate, dry_run=True)], ids=["plan", "dry-run"])
def test_planning_ends_with_a_signal(
    make: Callable[..., Any], context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(planning, "make_plan", interrupted(planning.make_plan))
        with pytest.raises(Stopped):
            make(context, ID)
    assert status(context, ID).status == "not_started"
    assert plan(context, ID).generation == 1


def test_validating_ends_with_a_signal(finished: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(finished)
    before = status(context, ID).validation
    monkeypatch.setattr(whole, "compare", interrupted(whole.compare))
    with pytest.raises(Stopped):
        validate(context, ID, full=True, again=True)
    assert status(context, ID).validation == before
