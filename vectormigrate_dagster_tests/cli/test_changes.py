"""Contract of `catch-up`, `report-changes` and `poll`: what they pass on, print, and end with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.errors import Stopped
from vectormigrate_dagster.services import live, polling
from vectormigrate_dagster.services.models import (
    CatchUpDocument,
    ChangesDocument,
    LiveStatus,
    PollDocument,
    UnsettledRecord,
)

LEVEL = LiveStatus(state="catching_up", primary="source", epoch=3, lag_records=0, lag_seconds=0.0, open=0)
BEHIND = LEVEL.model_copy(update={"lag_records": 1200, "lag_seconds": 75.0, "open": 2})


def call(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, words, input=text)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the services were asked for."""
    calls: list[Any] = []

    def report(context: object, id: str, ids: Iterable[str], scope: str | None = None) -> ChangesDocument:
        given = list(ids)
        calls.append((id, given, scope))
        return ChangesDocument(migration_id=id, noted=len(given), live=BEHIND)

    def look(context: object, id: str, **settings: Any) -> PollDocument:
        calls.append((id, settings))
        way = "sweep" if settings["sweep"] else "field"
        return PollDocument(migration_id=id, way=way, read=9, noted=2, without=1, limits="no deletions", live=BEHIND)  # type: ignore[arg-type]  # one of the two

    monkeypatch.setattr(live, "report_changes", report)
    monkeypatch.setattr(polling, "poll", look)
    return calls


def test_ids_come_from_the_command_a_file_or_standard_input(asked: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("7\n\n 8 \n")
    assert call("report-changes", "films", "7", "8", "--scope", "eu").exit_code == 0
    assert call("report-changes", "films", "--ids-from", str(file)).exit_code == 0
    done = call("report-changes", "films", "--ids-from", "-", text="7\n8\n")
    assert asked == [("films", ["7", "8"], scope) for scope in ("eu", None, None)]
    assert (
        "2 changed ids noted; 1,200 changes wait, the oldest for 1 min 15 s, 2 of them are being written" in done.stdout
    )
    assert "vectormigrate catch-up films" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report-changes", "films"], "give ids, or --ids-from FILE"),
        (["report-changes", "films", "7", "--ids-from", "-"], "give ids, or --ids-from FILE"),
        (["report-changes", "films", "--ids-from", "/nowhere"], "'/nowhere' cannot be read as text"),
        (["poll", "films"], "give --field NAME or --sweep"),
        (["poll", "films", "--field", "at", "--sweep"], "give --field NAME or --sweep"),
        (["poll", "films", "--sweep", "--since", "1"], "--since goes with --field"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked: list[Any], words: list[str], message: str) -> None:
    done = call(*words)
    assert (done.exit_code, asked) == (2, [])
    assert message in done.stderr


def test_poll_says_what_it_cannot_see(asked: list[Any]) -> None:
    done = call("poll", "films", "--field", "updated_at", "--since", "5", "--overlap", "2")
    assert done.exit_code == 0
    assert "2 of 9 records are to be looked at again" in done.stdout
    assert "1 record has no such field, and is not watched" in done.stdout
    assert "no deletions" in done.stderr
    assert asked == [("films", {"field": "updated_at", "since": "5", "overlap": 2.0, "sweep": False})]
    assert json.loads(call("poll", "films", "--sweep", "--json").stdout)["way"] == "sweep"


@pytest.mark.parametrize(("outcome", "code"), [("refused", 0), ("still_wrong", 1)])
def test_catch_up_tells_what_is_not_alike(monkeypatch: pytest.MonkeyPatch, outcome: str, code: int) -> None:
    def carry_over(context: object, id: str, **settings: Any) -> CatchUpDocument:
        settings["progress"](BEHIND)
        left = (UnsettledRecord(id="7", scope="eu", outcome=outcome, reason="because"),)
        return CatchUpDocument(
            migration_id=id, carried=3, records={"repaired": 2, outcome: 1}, unsettled=left, seconds=1.25, live=LEVEL
        )

    monkeypatch.setattr(live, "catch_up", carry_over)
    done = call("catch-up", "films")
    assert done.exit_code == code
    assert done.stdout.startswith("3 changes carried over in 1.2 s (2 repaired, 1 ")
    assert "not alike: 7 in eu: " in done.stdout
    assert "both sides are level; the source is primary" in done.stdout
    assert "1,200 changes wait" in done.stderr
    assert json.loads(call("catch-up", "films", "--json").stdout)["live"]["lag_records"] == 0


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*words: object, **settings: object) -> None:
        raise Stopped("x")

    monkeypatch.setattr(live, "catch_up", stopped)
    done = call("catch-up", "films", "--follow")
    assert done.exit_code == 130
    assert "go on with: vectormigrate catch-up films --follow" in done.stderr
