"""Checks the verbs that put something back: what they ask, what they say, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import pytest

from vectormigrate_dagster.cli import undo
from vectormigrate_dagster.errors import LeaseHeld, Stopped
from vectormigrate_dagster.services.models import RollbackDocument
from vectormigrate_dagster_tests.cli.support import ROLLED_BACK, Services, run


def rolled_back(services: Services) -> bool:
    return any(name == "rollback.rollback" for name, _, _ in services.calls)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked: both streams are a terminal."""

    class Streams:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(undo, "sys", type("sys", (), {"stdin": Streams, "stderr": Streams}))


def test_nobody_who_cannot_be_asked_is_rolled_back(services: Services) -> None:
    result = run("rollback", "m")
    assert result.exit_code == 2
    assert "add --force" in result.stderr
    assert not rolled_back(services)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_is_asked_and_may_say_no(services: Services) -> None:
    result = run("rollback", "m", stdin="n\n")
    assert result.exit_code == 130
    assert "Take back what migration 'm' wrote into collection" in result.stderr
    assert not rolled_back(services)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_that_says_yes_gets_one_document(services: Services) -> None:
    result = run("rollback", "m", "--json", stdin="y\n")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["undone"] == 9000
    assert services.calls[-1][2]["workers"] == 5


def test_force_asks_nobody(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(click, "confirm", never)
    result = run("rollback", "m", "--force", "--workers", "3")
    assert result.exit_code == 0
    assert services.calls[-1][2]["workers"] == 3
    assert "9,000 records deleted or written back" in result.stdout
    assert "deleted, as it was empty" in result.stdout


def test_again_says_that_there_is_nothing_to_do(services: Services) -> None:
    services.answers["rollback.rollback"] = ROLLED_BACK.model_copy(update={"already": True})
    result = run("rollback", "m", "--force")
    assert result.exit_code == 0
    assert "rolled back before: nothing to do" in result.stdout


def test_what_was_left_is_counted_and_the_exit_code_says_so(services: Services) -> None:
    left = {"left": 2, "remaining": 7, "dropped": False, "listed": "/h/left"}
    services.answers["rollback.rollback"] = ROLLED_BACK.model_copy(update=left)
    result = run("rollback", "m", "--force")
    assert result.exit_code == 1
    assert "2 records that somebody has changed since" in result.stdout
    assert "kept, with 7 records in it" in result.stdout
    assert "what was left is listed in /h/left" in result.stderr


def test_an_interrupt_says_how_to_go_on(services: Services) -> None:
    services.answers["rollback.rollback"] = Stopped("stopped")
    result = run("rollback", "m", "--force")
    assert result.exit_code == 130
    assert "what was taken back is recorded; go on with: vectormigrate rollback m" in result.stderr


def test_a_load_at_work_is_exit_code_one(services: Services) -> None:
    services.answers["rollback.rollback"] = LeaseHeld("migration 'm' is at work")
    assert run("rollback", "m", "--force").exit_code == 1


def test_what_is_waited_for_is_said_on_the_side(services: Services) -> None:
    def waits(*_: Any, tell: Callable[[str], None], **__: Any) -> RollbackDocument:
        tell("waiting for about 125 s")
        return ROLLED_BACK

    services.answers["rollback.rollback"] = waits
    result = run("rollback", "m", "--force", "--json")
    assert json.loads(result.stdout)["undone"] == 9000
    assert "m: waiting for about 125 s" in result.stderr
