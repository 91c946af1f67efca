"""Splits of Milvus: cut exactly, whatever ids look like, in a number of questions that does not follow the records."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.databases.milvus.id_space import Numbers, Texts
from vectormigrate_dagster.databases.milvus.quantiles import quantiles
from vectormigrate_dagster.model import Id
from vectormigrate_dagster_tests.huge import KINDS, Huge

_TEXTS = st.text(st.characters(codec="utf-8", min_codepoint=1), min_size=1, max_size=12)
_AWKWARD = st.sampled_from(
    ['"', "\\", "\n", "a", "aa", "a\x01", "\uffff", "\U0010ffff", "é", "e\u0301", "\ud7ff", "z" * 80]
)
_NUMBERS = st.integers(-(2**63), 2**63 - 2)


class Listed:
    """Ids in memory, asked as `quantiles` asks."""

    def __init__(self, ids: Sequence[Id]) -> None:
        self.ids = sorted(ids, key=lambda value: value.encode() if isinstance(value, str) else value)
        self.asked = 0

    def at(self, after: Id | None, place: int) -> Id | None:
        self.asked += 1
        found = self._upto(after) + place - 1
        return self.ids[found] if found < len(self.ids) else None

    def count(self, after: Id | None, last: Id) -> int:
        self.asked += 1
        return self._upto(last) - self._upto(after)

    def _upto(self, last: Id | None) -> int:
        if last is None:
            return 0
        if isinstance(last, str):
            last.encode()  # half a surrogate pair cannot be sent
        return bisect_right(self.ids, last)  # type: ignore[type-var]


def _cuts(ids: Sequence[Id], parts: int) -> list[Id]:
    return [ids[cut - 1] for cut in sorted({len(ids) * i // parts for i in range(1, parts)} - {0})]


@given(st.sets(_TEXTS | _AWKWARD, min_size=1, max_size=200), st.integers(1, 30), st.integers(1, 10))
def test_texts_are_cut_exactly_whatever_is_in_them(texts: set[str], parts: int, page: int) -> None:
    asked = Listed(list(texts))
    assert quantiles(asked, len(texts), parts, page=page, numbers=False) == _cuts(asked.ids, parts)


@given(st.sets(_NUMBERS, min_size=1, max_size=200), st.integers(1, 30), st.integers(1, 10))
def test_numbers_are_cut_exactly_wherever_they_are(numbers: set[int], parts: int, page: int) -> None:
    asked = Listed(list(numbers))
    assert quantiles(asked, len(numbers), parts, page=page, numbers=True) == _cuts(asked.ids, parts)


@given(st.lists(_TEXTS | _AWKWARD, max_size=4), _TEXTS | _AWKWARD, _TEXTS | _AWKWARD, st.floats(0, 1))
def test_a_text_in_between_is_in_between_and_made_of_known_characters(
    known: list[str], one: str, other: str, share: float
) -> None:
    space = Texts()
    for text in known:
        space.learn(text)
    low, high = sorted((one, other))
    middle = space.between(low, high, share)
    if middle is not None:
        assert low.encode() < str(middle).encode() < high.encode()
        assert set(str(middle)) <= set("".join([*known, low, high]))


@given(_NUMBERS, _NUMBERS, st.floats(0, 1))
def test_a_number_in_between_is_found_wherever_there_is_one(one: int, other: int, share: float) -> None:
    low, high = sorted((one, other))
    middle = Numbers().between(low, high, share)
    assert middle is None if high - low <= 1 else low < int(str(middle)) < high


@given(st.sets(_TEXTS | _AWKWARD, min_size=1, max_size=30))
def test_ends_rise_and_the_last_of_them_is_behind_what_begins_alike(texts: set[str]) -> None:
    first = min(texts)
    ends = Texts().ends(first)
    assert all(str(low) < str(high) for low, high in pairwise([first, *ends]))
    assert all(str(text) < str(ends[-1]) for text in texts if ends and text[0] == first[0] and first[0] < "\ud7ff")


def test_rows_that_repeat_an_id_or_vanish_leave_splits_that_tile() -> None:
    class Fewer(Listed):
        """Counts three rows for each id, as a server does that was given them by `insert`."""

        def count(self, after: Id | None, last: Id) -> int:
            return 3 * super().count(after, last)

    bounds = quantiles(Fewer([f"id {i:04}" for i in range(300)]), 900, 9, page=20, numbers=False)
    assert bounds
    assert all(low < high for low, high in pairwise(bounds))  # type: ignore[operator]


def test_splits_begin_at_the_smallest_number_that_a_server_knows() -> None:
    """A filter that names the number before it is refused by the server."""

    class Strict(Listed):
        def _upto(self, last: Id | None) -> int:
            assert last is None or int(str(last)) >= -(2**63)
            return super()._upto(last)

    ids = [-(2**63), *range(9_999)]
    assert quantiles(Strict(ids), len(ids), 3, page=10, numbers=True) == _cuts(ids, 3)


@pytest.mark.parametrize("parts", [40, 400])
@pytest.mark.parametrize("name", list(KINDS))
def test_a_billion_records_are_cut_in_few_questions_a_piece(name: str, parts: int) -> None:
    huge = Huge.of(name, 1_000_000_000)
    bounds = quantiles(huge, huge.total, parts, page=16_384, numbers=KINDS[name].numbers)
    assert len(bounds) == parts - 1
    for number, bound in enumerate(bounds, start=1):
        assert abs(huge.upto(bound) - huge.total * number // parts) <= huge.total // parts // 100
    # Walking by pages takes 61,035 whatever the number of parts.
    assert huge.asked <= (12 if KINDS[name].numbers else 45) * parts


def test_more_records_cost_no_more_questions_than_their_number_has_digits() -> None:
    asked = []
    for total in (10**7, 10**8, 10**9, 10**10):
        huge = Huge.of("uuid texts", total)
        quantiles(huge, total, 100, page=1000, numbers=False)
        asked.append(huge.asked)
    assert all(more - fewer <= 500 for fewer, more in pairwise(asked))  # 5 of each of 100 cuts


def test_uuids_as_texts_are_told_by_their_own_characters_only() -> None:
    space = Texts()
    for number in range(30):
        space.learn(str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number))))
    made = str(space.between("0", "f", 0.5))
    assert "6" < made < "9"
