"""What tests of a transfer share: a pair of databases, one call that moves a split, a look for leaked threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer import Checkpoint, Retry, Settings, Throttle, transfer_split
from vectormigrate_dagster.transfer.limits import BatchSize
from vectormigrate_dagster.transfer.throttle import Circuit
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper


def impatient(*, max_retries: int = 5, batch_records: int = 10) -> Throttle:
    """A throttle that does not wait between attempts, and gives up after 30 failures in a row."""
    return Throttle(
        source=Retry(max_retries=max_retries, first_seconds=0, circuit=Circuit(after=30)),
        target=Retry(max_retries=max_retries, first_seconds=0, circuit=Circuit(after=30)),
        batch=BatchSize(batch_records),
    )


@dataclass
class Pair:
    """A source with records 0 to 99 and an empty target."""

    source: MemoryDatabase = field(default_factory=lambda: MemoryDatabase("source"))
    target: MemoryDatabase = field(default_factory=lambda: MemoryDatabase("target"))
    mapper: Any = field(default_factory=SameMapper)
    split: Split = field(default_factory=lambda: Split(kind=IdKind.U64))

    def fill(self, records: int = 100, *, start: int = 0) -> Pair:
        """Put records into the source."""
        self.source.put(make_batch(range(start, start + records)))
        return self

    def move(self, **arguments: Any) -> Iterator[Checkpoint]:
        """Start a transfer with pages of 10 records and no waiting."""
        defaults: dict[str, Any] = {
            "source": Source(self.source),
            "target": self.target,
            "mapper": self.mapper,
            "split": self.split,
            "settings": Settings(batch_records=10, page_records=10, writers=1),
            "throttle": impatient(),
        }
        return transfer_split(**{**defaults, **arguments})


def assert_moved(pair: Pair) -> None:
    """Fail unless the target holds exactly the source's records."""
    assert pair.target.ids() == pair.source.ids()
    for key in pair.source.ids():
        assert compare(pair.source.get(key), pair.target.get(key)).equal


def watch(moving: Iterator[Checkpoint], seen: list[Checkpoint], target: MemoryDatabase | None = None) -> None:
    """Collect checkpoints as they come; what they cover must be in `target`."""
    for checkpoint in moving:
        seen.append(checkpoint)
        assert target is None or set(range(int(checkpoint.after) + 1)) <= target.ids()


@pytest.fixture
def pair() -> Pair:
    return Pair().fill()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("vectormigrate-")]
    assert left == []
