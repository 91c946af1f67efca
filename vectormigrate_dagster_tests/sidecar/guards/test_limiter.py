"""Checks token buckets: a full bucket, a steady rate, and never more buckets than allowed."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.sidecar.limiter import Buckets
from vectormigrate_dagster_tests.sidecar.guards.asking import Clock


def test_a_full_bucket_then_a_token_every_so_often() -> None:
    clock = Clock()
    buckets = Buckets(100, 10, clock)

    assert [buckets.take("ada") for _ in range(100)] == [0.0] * 100
    assert buckets.take("ada") == 0.6
    assert buckets.take("eve") == 0.0
    clock.pass_by(0.6001)
    assert buckets.take("ada") == 0.0
    assert buckets.take("ada") > 0
    clock.pass_by(3600)
    assert sum(buckets.take("ada") == 0.0 for _ in range(200)) == 100  # no more than a bucket holds


def test_several_tokens_are_taken_all_or_none() -> None:
    clock = Clock()
    buckets = Buckets(100, 10, clock)

    assert buckets.take("ada", 60) == 0.0
    assert buckets.take("ada", 60) == 12.0
    assert buckets.take("ada", 40) == 0.0
    clock.pass_by(59)
    assert buckets.take("ada", 1000) > 0  # more than a bucket holds takes a full one
    clock.pass_by(1.1)
    assert buckets.take("ada", 1000) == 0.0


def test_asking_how_long_takes_nothing_and_remembers_nobody() -> None:
    clock = Clock()
    buckets = Buckets(2, 10, clock)

    assert buckets.wait("ada") == 0.0
    assert len(buckets) == 0
    buckets.take("ada", 2)
    assert buckets.wait("ada") == 30.0
    clock.pass_by(30)
    assert buckets.wait("ada") == buckets.wait("ada") == 0.0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 60)), max_size=60))
def test_nobody_gets_more_than_a_bucket_and_the_rate(asked: list[tuple[float, int]]) -> None:
    clock = Clock()
    buckets = Buckets(60, 10, clock)
    began, got = clock.now, 0
    for seconds, tokens in asked:
        clock.pass_by(seconds)
        wait = buckets.take("ada", tokens)
        got += tokens if wait == 0.0 else 0
        assert got <= 60 + (clock.now - began) + 1e-6
        if wait:  # and having waited that long, one is served
            clock.pass_by(wait + 1e-6)
            assert buckets.take("ada", tokens) == 0.0
            got += tokens


def test_a_hundred_thousand_callers_cost_no_more_than_those_remembered() -> None:
    buckets = Buckets(30, 1000, Clock())
    for number in range(2000):
        buckets.take(f"10.0.{number}")
    tracemalloc.start()
    try:
        for number in range(100_000):
            buckets.take(f"10.1.{number}")
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(buckets) == 1000
    assert grown < 2 * 2**20
