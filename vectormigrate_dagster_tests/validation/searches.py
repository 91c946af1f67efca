"""What tests of the search tier share: searching, copies that can be filtered, and databases that answer wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vectormigrate_dagster.databases import Hits
from vectormigrate_dagster.validation import TierResult
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.validation.support import full, searching

Answer = Callable[..., Hits]


def searched(source: MemoryDatabase, target: MemoryDatabase, **settings: Any) -> TierResult:
    return full(source, target, search=searching(**settings)).tier("search")


def bend(database: MemoryDatabase, change: Callable[[Answer], Answer]) -> None:
    """Let a database answer otherwise than it should."""
    database.search = change(database.search)  # type: ignore[method-assign]


def coloured(records: int = 200) -> tuple[MemoryDatabase, MemoryDatabase]:
    """Copies whose records can be filtered by their colour."""
    source, target = (MemoryDatabase(name, schema=dense_schema(name)) for name in ("source", "target"))
    batch = make_batch(range(records))
    payloads = [{**payload, "colour": ("red", "green", "blue")[i % 3]} for i, payload in enumerate(batch.payloads)]
    for database in (source, target):
        database.put(replace(batch, payloads=payloads))
    return source, target
