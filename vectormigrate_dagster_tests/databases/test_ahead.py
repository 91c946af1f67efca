"""Contract of `databases.ahead`: answers in order, several at work, no more asked than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.errors import Throttled, Unavailable


def asked(count: int, seen: list[int]) -> Iterator[int]:
    for number in range(count):
        seen.append(number)
        yield number


@pytest.mark.parametrize("count", [0, 1, 8, 100])
def test_answers_come_in_order(count: int) -> None:
    assert list(ahead(lambda number: -number, range(count))) == [-number for number in range(count)]


def test_several_are_at_work_at_once() -> None:
    together = threading.Barrier(8)
    assert len(list(ahead(lambda _: together.wait(60), range(8)))) == 8


def test_no_more_is_asked_than_there_is_room_for() -> None:
    seen: list[int] = []
    answers = ahead(str, asked(100, seen))
    assert [next(answers), next(answers)] == ["0", "1"]
    assert len(seen) == 10
    answers.close()  # type: ignore[attr-defined]
    assert len(seen) == 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vectormigrate-ask")]


def test_an_error_comes_in_its_turn() -> None:
    answers = ahead(lambda number: 1 // (2 - number), range(5))
    assert [next(answers), next(answers)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_an_outcome_that_is_not_known_hides_behind_no_answer() -> None:
    """Who hears only that the first request was turned down would believe that nothing may still be applied."""
    together = threading.Barrier(2)

    def ask(number: int) -> None:
        together.wait(60)
        raise Throttled("slow down") if number == 0 else Unavailable("timeout")

    with pytest.raises(Unavailable):
        list(ahead(ask, range(2)))
