"""A patient source repeats every call that fails for a while, and gives up as the retry policy says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import AuthenticationFailed, DatabaseError, Throttled, Unavailable
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, Split
from vectormigrate_dagster.transfer.patient import PatientSource
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase
from vectormigrate_dagster_tests.transfer.conftest import impatient

SPLIT = Split(kind=IdKind.U64)
FIRST = IdColumn.of(IdKind.U64, [0, 1])


def _within(context: AbstractContextManager[None]) -> bool:
    with context:
        return True


def _ids(batches: Iterable[Batch]) -> list[Id]:
    return [key for batch in batches for key in batch.ids.to_pylist()]


CALLS: dict[str, Callable[[Source], Any]] = {
    "probe": lambda source: source.probe(),
    "describe": lambda source: source.describe(),
    "count": lambda source: source.count(),
    "about": lambda source: source.about(),
    "repeated": lambda source: source.repeated(),
    "scopes": lambda source: source.scopes(),
    "plan_splits": lambda source: source.plan_splits(10),
    "scan": lambda source: _ids(source.scan(SPLIT, batch_records=10)),
    "scan_field": lambda source: _ids(source.scan_field(SPLIT, batch_records=10, field="n")),
    "filters_by": lambda source: source.filters_by("n"),
    "fetch": lambda source: source.fetch(FIRST).batch.ids.to_pylist(),
    "as_of_now": lambda source: _within(source.as_of_now()),
    "search": lambda source: [ids.to_pylist() for ids in source.search(np.ones((1, 4), np.float32), 3).ids],
}


@pytest.fixture
def database() -> MemoryDatabase:
    database = MemoryDatabase("source", schema=dense_schema())
    database.put(make_batch(range(30)))
    return database


def test_every_method_of_a_source_is_here() -> None:
    methods = {name for name in vars(Source) if not name.startswith("_")} - {"capabilities", "ping", "close"}
    assert methods == set(CALLS)


@pytest.mark.parametrize("error", [Throttled("slow down"), Unavailable("gone")], ids=["throttled", "unavailable"])
@pytest.mark.parametrize("method", CALLS)
def test_h28_a_call_that_fails_twice_is_made_three_times(
    database: MemoryDatabase, method: str, error: Exception
) -> None:
    wanted = CALLS[method](Source(database))
    database.calls.clear()
    database.faults.append(Fault(method, error, times=2))
    assert CALLS[method](PatientSource(Source(database), impatient())) == wanted
    assert database.calls[method] >= 3


@pytest.mark.parametrize("method", CALLS)
def test_h28_a_call_that_goes_on_failing_ends_with_its_last_error(database: MemoryDatabase, method: str) -> None:
    database.faults.append(Fault(method, Unavailable("gone"), times=None))
    with pytest.raises(Unavailable, match="gone"):
        CALLS[method](PatientSource(Source(database), impatient(max_retries=3)))
    assert database.calls[method] == 4


@pytest.mark.parametrize("error", [AuthenticationFailed("who are you"), DatabaseError("no")], ids=["key", "other"])
@pytest.mark.parametrize("method", CALLS)
def test_an_error_that_will_not_pass_is_raised_at_once(database: MemoryDatabase, method: str, error: Exception) -> None:
    database.faults.append(Fault(method, error, times=None))
    with pytest.raises(type(error)):
        CALLS[method](PatientSource(Source(database), impatient()))
    assert database.calls[method] == 1


def test_h28_a_scan_goes_on_behind_the_last_record(database: MemoryDatabase) -> None:
    database.faults.append(Fault("scan", Unavailable("gone"), at=2))
    source = PatientSource(Source(database), impatient())
    assert _ids(source.scan(SPLIT, batch_records=10)) == list(range(30))


def test_ping_asks_once(database: MemoryDatabase) -> None:
    database.faults.append(Fault("ping", Unavailable("gone")))
    with pytest.raises(Unavailable):
        PatientSource(Source(database), impatient()).ping()
    assert database.calls["ping"] == 1
