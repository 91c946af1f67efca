"""What the tests of live migrations share: two databases in memory, a journal, an application, a re-sync."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import Admission, Bounds, Journal, JournalDatabase, Key
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.mapping.profile import Profiler
from vectormigrate_dagster.mapping.schema import Mapping, map_schema
from vectormigrate_dagster.model import Batch, Dense, Id, IdColumn, IdKind, Split
from vectormigrate_dagster.transfer import Throttle, transfer_split
from vectormigrate_dagster.transfer.throttle import Retry
from vectormigrate_dagster_tests.batches import dense_schema
from vectormigrate_dagster_tests.memory import CAPABILITIES, MemoryDatabase

BOUNDS = Bounds(start=60.0, request=100.0, margin=0.0)
"""Far longer than any test takes: what has to wait for them waits for `Live.later`."""


def record(key: Id, value: int, *, kind: IdKind = IdKind.U64, scope: str | None = None) -> Batch:
    """A record whose vector and payload say `value`."""
    vector = np.full((1, 4), value, dtype=np.float32)
    return Batch(IdColumn.of(kind, [key]), scope, {"": Dense(vector)}, [{"value": value}])


def same_mapping(kinds: tuple[IdKind, ...] = (IdKind.U64,), **options: Any) -> Mapping:
    """A mapping between two databases in memory that changes nothing, as the planner makes it."""
    profile = Profiler(None).profile(complete=True)
    mapping, report = map_schema(
        dense_schema("source", kinds=kinds),
        CAPABILITIES,
        CAPABILITIES,
        MappingConfig(**options),
        profile,
        collection="target",
    )
    report.check()
    return mapping


def quick_throttle() -> Throttle:
    """Two more attempts, without waiting."""
    return Throttle(
        source=Retry(max_retries=2, first_seconds=0, longest_seconds=0),
        target=Retry(max_retries=2, first_seconds=0, longest_seconds=0),
    )


@dataclass
class Live:
    """A live migration in memory.

    Args:
        folder: of the journal.
        mapping: of the plan.
    """

    folder: Path
    mapping: Mapping = field(default_factory=same_mapping)
    bounds: Bounds = BOUNDS
    sides_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = MemoryDatabase("source", schema=self.mapping.source_schema)
        self.target = MemoryDatabase("target", schema=self.mapping.target_schema)
        kinds = self.mapping.source_schema.ids.kinds
        self.database = JournalDatabase(f"sqlite:///{self.folder}/journal.db")
        self.journal = Journal.register(self.database, "m", id_kinds=kinds, bounds=self.bounds, by="test")
        self.opened = 0
        self._ahead, now = 0.0, self.database.now
        self.database.now = lambda connection: now(connection) + self._ahead  # type: ignore[method-assign]

    def later(self, seconds: float = 1000.0) -> None:
        """Let time pass for the journal; by default as much as any request or lease may take."""
        self._ahead += seconds

    @property
    def sides(self) -> Sides:
        """Both sides."""

        def open_source() -> MemoryDatabase:
            self.opened += 1
            return self.source

        return Sides(
            self.mapping,
            source=Source(self.source),
            target=self.target,
            open_source=open_source,
            throttle=quick_throttle(),
            **self.sides_options,
        )

    def catch_up(self, **options: Any) -> CatchUp:
        """A catch-up of its own."""
        return CatchUp(self.journal, self.sides, **{"holder": "test", **options})

    def key(self, value: Id, *, scope: str | None = None) -> Key:
        """The journal's key of an id."""
        return Key.of(value, self.mapping.source_schema.ids.kinds, scope)

    def admit(self, *ids: Id, scope: str | None = None) -> Admission:
        """Begin a write."""
        return self.journal.admit([self.key(value, scope=scope) for value in ids])

    def write(self, batch: Batch) -> None:
        """Write a record as an application does, from admission to acknowledgement."""
        admission = self.admit(*batch.ids.to_pylist(), scope=batch.scope)
        getattr(self, admission.control.primary).put(batch)
        self.journal.applied(admission)

    def remove(self, *ids: Id, scope: str | None = None) -> None:
        """Delete records as an application does."""
        admission = self.admit(*ids, scope=scope)
        side = getattr(self, admission.control.primary)
        side.delete(IdColumn.of(self.key(ids[0]).kind, ids), scope)
        self.journal.applied(admission)

    def guard(self, split: Split | None = None, **options: Any) -> SplitGuard:
        """The guard of one attempt to load all of the source."""
        return SplitGuard(self.journal, "g0001-00000", split or Split(kind=IdKind.U64), **options)

    def load(self, *, split_kind: IdKind = IdKind.U64, **options: Any) -> None:
        """Load all of the source."""
        split = Split(kind=split_kind)
        options = {"guard": self.guard(split), "throttle": quick_throttle(), **options}
        for _ in transfer_split(
            source=Source(self.source), target=self.target, mapper=self.sides.mapper, split=split, **options
        ):
            pass

    def switch(self) -> None:
        """Make the other side the primary, as a cutover does once all is well."""
        frozen = self.journal.freeze(since=self.journal.control(), seconds=60, by="test", reason="test")
        self.catch_up().drain(float("inf"))
        self.journal.verified(frozen)
        self.journal.switch(since=frozen, by="test", reason="test")

    def values(self, side: MemoryDatabase, scope: str | None = None) -> dict[Id, int]:
        """What a side holds: id -> value."""
        records = side.store.records.get(scope, {})
        return {key: one.payloads[0]["value"] for key, one in records.items()}

    def assert_equal(self, scope: str | None = None) -> None:
        """Both sides hold the same, and nothing is left to do."""
        assert self.values(self.target, scope) == self.values(self.source, scope)
        assert self.journal.lag().records == 0
