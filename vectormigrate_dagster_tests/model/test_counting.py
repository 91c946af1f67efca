"""Checks numbers in sentences."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.model.counting import agreeing, counted


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 changes"), (1, "1 change"), (2, "2 changes"), (1_200, "1,200 changes")]
)
def test_a_noun_goes_with_its_number(number: int, expected: str) -> None:
    assert counted(number, "change") == expected


@pytest.mark.parametrize(("verb", "many"), [("is", "are"), ("has", "have"), ("was", "were"), ("waits", "wait")])
def test_a_verb_goes_with_its_number(verb: str, many: str) -> None:
    assert [agreeing(number, verb) for number in (0, 1, 2)] == [many, verb, many]
