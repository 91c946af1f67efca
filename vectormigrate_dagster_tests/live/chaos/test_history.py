"""Checks what tells lost writes of an application from its notes: a value that a later acknowledged write replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster_tests.live.chaos.history import History, Notes, Place

HERE: Place = ("north", 3)
THERE: Place = ("north", 4)


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "one.notes")


def read(tmp_path: Path) -> History:
    return History.read({HERE: "first"}, tmp_path.glob("*.notes"))


def test_a_record_that_nobody_wrote_is_as_it_was(tmp_path: Path) -> None:
    assert read(tmp_path).possible(HERE) == {"first"}
    assert read(tmp_path).possible(THERE) == {None}
    assert read(tmp_path).wrong({HERE: "first"}) == []
    assert len(read(tmp_path).wrong({HERE: "first", THERE: "resurrected"})) == 1
    assert len(read(tmp_path).wrong({})) == 1


def test_an_acknowledged_write_must_be_there(tmp_path: Path, notes: Notes) -> None:
    notes.ended(notes.began([HERE, THERE], "new"))
    assert read(tmp_path).possible(HERE) == read(tmp_path).possible(THERE) == {"new"}
    notes.ended(notes.began([THERE], None))
    assert read(tmp_path).wrong({HERE: "new"}) == []
    assert len(read(tmp_path).wrong({HERE: "first", THERE: "new"})) == 2


def test_a_write_of_unknown_outcome_may_be_there_or_not_whenever_it_happened(tmp_path: Path, notes: Notes) -> None:
    notes.began([HERE], "unknown")
    assert read(tmp_path).possible(HERE) == {"first", "unknown"}
    notes.ended(notes.began([HERE], "known"))
    assert read(tmp_path).possible(HERE) == {"known", "unknown"}


def test_of_writes_at_the_same_time_any_may_be_the_last(tmp_path: Path, notes: Notes) -> None:
    other = Notes(tmp_path / "two.notes")
    one, two = notes.began([HERE], "one"), other.began([HERE], "two")
    notes.ended(one)
    other.ended(two)
    assert read(tmp_path).possible(HERE) == {"one", "two"}
    notes.ended(notes.began([HERE], "three"))
    assert read(tmp_path).possible(HERE) == {"three"}
    assert read(tmp_path).acknowledged == 3
