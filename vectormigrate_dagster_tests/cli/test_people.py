"""Checks what people read: tables, progress, durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest

from vectormigrate_dagster.cli import progress as progress_module
from vectormigrate_dagster.cli.progress import Progress, watch
from vectormigrate_dagster.cli.render import duration
from vectormigrate_dagster.services.models import LiveStatus, UnrepairedRecord
from vectormigrate_dagster.services.models import Progress as Done
from vectormigrate_dagster_tests.cli.support import COMPLETED, REPAIRED, STATUS, VERBS_WITH_JSON, Services, run


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_tables_fit_and_repeat_data_as_it_is(
    services: Services, arguments: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectormigrate_dagster.cli.render._WIDE", width)
    shown = run(*arguments).stdout

    assert shown.strip()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    if arguments == ("status", "m"):
        assert "5,432 of 10,000 (54.32 %)" in shown
        assert "3 of 8 done, 2 running, 1 failed" in shown
        assert "[bold]no" in shown
    if arguments[0] == "lookup":
        assert '"[red]Ä\\u001b"' in shown
    if arguments[0] == "plan":
        assert "37 of 10,000 values exceed 2^53 [int_rounded]" in " ".join(shown.split())
        assert "lossy (allowed)" in shown


def test_how_far_behind_the_other_side_is_comes_with_the_age_of_that(services: Services) -> None:
    looked = datetime.now(UTC) - timedelta(hours=1, seconds=20)
    live = LiveStatus(state="catching_up", primary="source", lag_records=3, lag_seconds=2.0, at=looked)
    services.answers["status.status"] = STATUS.model_copy(update={"live": live})
    shown = " ".join(run("status", "m").stdout.split())
    assert "3 changes wait, the oldest for 2.0 s (as of 1 h 0 min ago)" in shown
    assert f'"at":"{looked:%Y-%m-%dT%H:%M:%S}' in run("status", "m", "--json").stdout.replace(" ", "")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_is_lines_and_not_too_many(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("m", clock=clock) as progress:
        for clock.now, records in ((0.0, 10), (1.0, 20), (6.0, 30), (7.0, 40)):
            progress(STATUS.model_copy(update={"progress": Done.of(records, 100)}))
        progress(COMPLETED.model_copy(update={"progress": Done.of(100, 100)}))

    assert capsys.readouterr().err.splitlines() == [
        "m: 10 of 100 records (10.00 %), 1,234/s, 3 min 20 s left",
        "m: 30 of 100 records (30.00 %), 1,234/s, 3 min 20 s left",
        "m: 100 of 100 records (100.00 %)",
    ]


def test_progress_tells_what_is_waited_for_when_everything_is_moved(capsys: pytest.CaptureFixture[str]) -> None:
    counts = STATUS.partitions.model_copy(update={"done": STATUS.partitions.total})
    moved = STATUS.model_copy(
        update={"progress": Done.of(100, 100), "rate_per_second": None, "eta_seconds": None, "indexing": "building"}
    )
    with Progress("m") as progress:
        progress(moved)
        progress(moved.model_copy(update={"partitions": counts}))
    assert capsys.readouterr().err.splitlines() == [
        "m: 100 of 100 records (100.00 %)",
        "m: 100 of 100 records (100.00 %), the target builds its index",
    ]


def test_progress_measures_a_rate_where_no_work_reports_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    silent = STATUS.model_copy(update={"rate_per_second": None, "eta_seconds": None})
    with Progress("m", clock=clock) as progress:
        for clock.now, records in ((0.0, 100), (10.0, 200)):
            progress(silent.model_copy(update={"progress": Done.of(records, 1000)}))

    first, second = capsys.readouterr().err.splitlines()
    assert first == "m: 100 of 1,000 records (10.00 %)"
    assert second == "m: 200 of 1,000 records (20.00 %), 10/s, 1 min 20 s left"


def test_watch_ends_with_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([STATUS, STATUS, COMPLETED])
    waits: list[float] = []

    watch(lambda: next(answers), wait=waits.append)

    assert waits == [2.0, 2.0]
    assert [line.rpartition(", ")[2] for line in capsys.readouterr().out.splitlines()] == ["in progress", "completed"]


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress_module.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("films") as progress:
        progress(STATUS)

    assert "films" in terminal.getvalue()
    assert "5,432/10,000  1,234/s  3 min 20 s left" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (59.9, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_repair_that_left_something_says_what_why_and_where(services: Services) -> None:
    left = UnrepairedRecord(id="17", scope=None, outcome="left_alone", reason="not ours")
    services.answers["repair.repair"] = REPAIRED.model_copy(
        update={"passed": False, "listed": 4, "left_alone": 1, "progress": False, "left": (left,), "mismatches": "/l"}
    )
    result = run("repair", "m")
    assert result.exit_code == 1
    assert "m  NOT ALL REPAIRED  1 pass, 1.5 s" in result.stdout
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("17")] == [
        ["17", "-", "left", "alone", "not", "ours"]
    ]
    assert "the last pass repaired nothing, so no other was tried\nrecords that are left: /l\n" in result.stdout


def test_a_complete_repair_says_that_it_proves_nothing_else(services: Services) -> None:
    result = run("repair", "m")
    assert (result.exit_code, "m  nothing is left  1 pass" in result.stdout) == (0, True)
    assert result.stderr == "the other records are as unproven as before: vectormigrate validate m --full\n"
