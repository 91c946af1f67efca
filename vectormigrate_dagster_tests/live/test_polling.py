"""Checks that polling a field that only grows misses no change, whatever a scan could not see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.live.polling import Poll, Watermark, mark_of, mark_of_text
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind


def batch(values: dict[int, Any]) -> Batch:
    payloads = [{} if value is ... else {"at": value} for value in values.values()]
    vectors = {"": Dense(np.zeros((len(values), 1), np.float32))}
    return Batch(IdColumn.of(IdKind.U64, values), None, vectors, payloads)


def polled(values: dict[int, Any], after: Watermark | None, *, overlap: float = 0) -> tuple[set[int], Poll]:
    poll = Poll("at", after, overlap=overlap)
    return {int(key.text) for keys in poll.changed([batch(values)]) for key in keys}, poll


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        (5, ("number", 5)),
        (1.5, ("number", 1.5)),
        ("2026-11-22T10:00:00Z", ("time", 1795341600.0)),
        ("2026-11-22T11:00:00+01:00", ("time", 1795341600.0)),
        ("2026-11-22 10:00:00", ("time", 1795341600.0)),
        (True, None),
        (10**400, None),
        (None, None),
        ("soon", None),
        (float("nan"), None),
        (float("inf"), None),
        ([1], None),
    ],
)
def test_numbers_and_times_are_marks(value: object, mark: object) -> None:
    assert mark_of(value) == mark


def test_typed_values_are_read_as_the_field_is() -> None:
    assert mark_of_text("12") == ("number", 12)
    assert mark_of_text("1.5") == ("number", 1.5)
    assert mark_of_text("2026-11-22T10:00:00Z")[0] == "time"
    for text in ("nan", "soon", ""):
        with pytest.raises(ConfigurationError, match="neither a number nor a time"):
            mark_of_text(text)


def test_equal_values_are_reported_and_lacking_ones_counted() -> None:
    after = Watermark(unit="number", floor=10, high=20)
    found, poll = polled({1: 9, 2: 10, 3: 30, 4: ..., 5: "2026-11-22"}, after)
    assert found == {2, 3}
    assert (poll.seen, poll.without) == (5, 2)
    assert poll.watermark() == Watermark(unit="number", floor=20, high=30)
    assert polled({1: 9}, after, overlap=1)[0] == {1}
    assert polled({1: 9}, after)[1].watermark() == Watermark(unit="number", floor=20, high=20)


def test_a_first_poll_only_finds_where_to_begin() -> None:
    found, poll = polled({1: 5, 2: 7}, None)
    assert (found, poll.watermark()) == (set(), Watermark(unit="number", floor=7, high=7))
    assert polled({1: ...}, None)[1].watermark() is None


def test_databases_are_asked_for_numbers_from_the_floor_on_and_never_for_times() -> None:
    after = Watermark(unit="number", floor=10, high=20)
    assert Poll("at", after, overlap=2.5).at_least == 7.5
    assert Poll("at", None, overlap=0).at_least is None
    assert Poll("at", Watermark(unit="time", floor=10, high=20), overlap=0).at_least is None
    assert Poll("at", Watermark(unit="number", floor=-1.7e308, high=0), overlap=1e308).at_least is None
    large = Watermark(unit="number", floor=2**53 + 1, high=2**53 + 1)
    assert Poll("at", large, overlap=0).at_least == 2**53  # and not 2^53 + 2, which is as near


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=6), min_size=2, max_size=6
    )
)
def test_every_change_is_reported_by_the_poll_after_it_at_the_latest(
    rounds: Sequence[Sequence[tuple[int, int, bool]]],
) -> None:
    """Between and during polls an application writes; the clock may stand still. What a scan missed, the next names."""
    clock, records = 100, dict.fromkeys(range(6), 100)
    _, poll = polled(records, None)
    after = poll.watermark()
    owed: set[int] = set()
    for writes in rounds:
        seen = dict(records)
        behind: set[int] = set()
        for number, ticks, is_seen in writes:
            clock += ticks
            records[number] = clock
            if is_seen:
                seen[number] = clock  # before the scan came by
                behind.discard(number)
                owed.add(number)
            else:
                behind.add(number)
        found, poll = polled(seen, after)
        assert owed - behind <= found
        after, owed = poll.watermark(), behind
    assert owed <= polled(records, after)[0]
