"""Checks that what cannot be taken back needs a token: fresh, unused, of the same caller, for the same thing."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.sidecar.confirmations import SECONDS, Confirmations

WHAT = ("rollback", "films", "plan-1", "tests:048a")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_good_once() -> None:
    confirmations = Confirmations()
    token = confirmations.make(*WHAT).token

    confirmations.redeem(token, *WHAT)

    with pytest.raises(NotSo, match="it was used"):
        confirmations.redeem(token, *WHAT)


@pytest.mark.parametrize("part", range(len(WHAT)))
def test_a_token_is_good_for_what_it_was_made_for(part: int) -> None:
    confirmations = Confirmations()
    token = confirmations.make(*WHAT).token
    other = tuple("other" if number == part else word for number, word in enumerate(WHAT))

    with pytest.raises(NotSo, match="made for another"):
        confirmations.redeem(token, *other)
    # And whoever tried has spoiled it.
    with pytest.raises(NotSo):
        confirmations.redeem(token, *WHAT)


def test_a_token_grows_old() -> None:
    clock = Clock()
    confirmations = Confirmations(clock)
    first, second = confirmations.make(*WHAT).token, confirmations.make(*WHAT).token

    clock.now = SECONDS - 1
    confirmations.redeem(first, *WHAT)
    clock.now = SECONDS
    with pytest.raises(NotSo, match="older than"):
        confirmations.redeem(second, *WHAT)


@pytest.mark.parametrize("token", ["", "x", "\ud800"])
def test_an_unknown_token_is_refused(token: str) -> None:
    with pytest.raises(NotSo):
        Confirmations().redeem(token, *WHAT)


def test_tokens_that_are_out_are_bounded() -> None:
    confirmations = Confirmations()
    first = confirmations.make(*WHAT).token
    last = [confirmations.make(*WHAT).token for _ in range(1000)][-1]

    with pytest.raises(NotSo):
        confirmations.redeem(first, *WHAT)
    confirmations.redeem(last, *WHAT)
