"""What tests of the tiers share: a right copy of a collection, and ways of spoiling it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Dense, IdKind, Metric, tile
from vectormigrate_dagster.validation import (
    Searched,
    SearchSettings,
    ValidationReport,
    validate_full,
)
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper


def searching(metric: Metric = Metric.COSINE, **settings: Any) -> SearchSettings:
    """Search by the only vector."""
    searched = (Searched(vector="", metric=metric, source_vector=""),)
    return SearchSettings(**{"vectors": searched, "k": 5, "queries": 40, **settings})


SEARCH = searching()
SPLITS = tile(IdKind.U64, [80, 150])


def copies(records: int = 200, *, metric: Metric = Metric.COSINE) -> tuple[MemoryDatabase, MemoryDatabase]:
    """A source and a right copy of it."""
    source, target = (MemoryDatabase(name, schema=dense_schema(name, metric=metric)) for name in ("source", "target"))
    if records:
        batch = make_batch(range(records))
        source.put(batch)
        target.put(batch)
    return source, target


def full(source: MemoryDatabase, target: MemoryDatabase, **arguments: Any) -> ValidationReport:
    return validate_full(Source(source), target, SameMapper(), SPLITS, **{"search": SEARCH, **arguments})


def failed(report: ValidationReport) -> set[str]:
    return {tier.tier for tier in report.tiers if not tier.passed}


def change_vector(target: MemoryDatabase, key: int, change: Callable[[Any], Any]) -> None:
    record = target.get(key)
    column = record.vectors[""]
    assert isinstance(column, Dense)
    target.put(replace(record, vectors={"": Dense(change(column.values.copy()))}))


def change_payload(target: MemoryDatabase, key: int, **changes: Any) -> None:
    record = target.get(key)
    payload = {**record.payloads[0], **changes}
    target.put(replace(record, payloads=[{name: value for name, value in payload.items() if value is not ...}]))


def bump(values: Any) -> Any:
    values[0, 2] = np.nextafter(values[0, 2], np.float32(9))
    return values
