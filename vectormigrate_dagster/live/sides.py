"""Both sides of a live migration, as a re-sync of either direction needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.live.journal import Key, Side
from vectormigrate_dagster.live.keys import Grouped, KeyMap
from vectormigrate_dagster.live.places import PlaceFinder
from vectormigrate_dagster.live.reverse import ReverseResync
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.reverse import ReverseMapper
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.transfer.guard import WriteGuard
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.resync import Resync
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.writer import OnConflict

_GROUP_RECORDS = 500


def _nothing() -> None:
    """Nobody wants to know."""


class Sides:
    """What re-syncs records from the primary to the other side; the direction is given by whoever holds the lease.

    Args:
        mapping: the plan's.
        source: open for reading.
        target: open for reading and writing.
        open_source: opens the source for writing; is called once, after the sides were switched, and never before.
        throttle: the retry policy of both sides.
        on_conflict: with "overwrite", somebody else's record in the target is overwritten; otherwise it is left alone.
        ownership: tells ours from others, and keeps what is overwritten; None where this migration created the target.
        sent: where ids are noted before they are sent to a target that this migration created.
        sent_before: reads, anew each time, which ids it may have sent; None if nobody noted any.
        tolerance: what is demanded of vectors in the target.
        source_tolerance: what is demanded of vectors that are written to the source.
        scopes: of the source, that this migration moves; None is all.
    """

    def __init__(
        self,
        mapping: Mapping,
        *,
        source: Source,
        target: Database,
        open_source: Callable[[], Database],
        throttle: Throttle,
        on_conflict: OnConflict = "fail",
        ownership: OwnershipLog | None = None,
        sent: SentLog | None = None,
        sent_before: Callable[[], SentRanges | None] = lambda: None,
        tolerance: Tolerance = EXACT,
        source_tolerance: Tolerance = EXACT,
        scopes: Sequence[str] | None = None,
    ) -> None:
        self.mapping = mapping
        self.source = source
        self.target = target
        self.throttle = throttle
        self.tolerance = tolerance
        self.mapper = RecordMapper(mapping)
        self.keys = KeyMap(
            mapping,
            default_scope=source.capabilities.default_scope,
            target=target.capabilities,
            scopes=scopes,
        )
        self._open_source = open_source
        self.on_conflict = on_conflict
        self.ownership = ownership
        self._sent = sent
        self._sent_before = sent_before
        self._source_tolerance = source_tolerance
        self._opened: Database | None = None
        self._closing = ExitStack()

    @property
    def group_records(self) -> int:
        """Records that both sides give at once."""
        return min(_GROUP_RECORDS, self.source.capabilities.max_page_records, self.target.capabilities.max_page_records)

    def grouped(self, keys: Sequence[Key], primary: Side, *, check: Callable[[], None] = _nothing) -> Grouped:
        """Keys of the journal in groups that a re-sync takes at once.

        Args:
            keys: which.
            primary: the side that is right.
            check: is called now and then while records are looked for; what it raises ends that.
        """
        if not self.keys.reads_records:
            return self.keys.grouped(keys, primary, most=self.group_records)
        finder = PlaceFinder(
            self.keys,
            self.mapper,
            source=self.source,
            target=self.target,
            throttle=self.throttle,
            most=self.group_records,
            check=check,
        )
        return finder.grouped(keys, primary)

    def holding(self, keys: Iterable[Key], primary: Side) -> set[Key]:
        """Those of some keys without a place in the target that may have a record, as far as the primary tells.

        Args:
            keys: in their canonical form.
            primary: the side that is right; the target cannot be asked, and a scope that is not moved is not.
        """
        found = set(keys)
        if primary == "target":
            return found
        together: dict[tuple[str | None, IdKind], list[Key]] = defaultdict(list)
        for key in found:
            with suppress(RefusedId):
                self.keys.target_scope(key)
                together[key.scope, key.kind].append(key)
        for (scope, kind), group in together.items():
            for start in range(0, len(group), self.group_records):
                some = {key.text: key for key in group[start : start + self.group_records]}
                ids = IdColumn.of(kind, [key.id for key in some.values()])
                there = self.throttle.source.call(partial(self.source.fetch, ids, scope)).batch.ids.texts()
                found -= {key for text, key in some.items() if text not in there}
        return found

    def resync(
        self,
        primary: Side,
        *,
        check: Callable[[], None],
        unsure: Callable[[], None] = _nothing,
        touched: Collection[Key] = (),
    ) -> Resync:
        """What makes records of the other side equal to the primary's.

        Args:
            primary: the side that is right, as the control row said in the transaction that gave the lease.
            check: is called right before every request that writes; what it raises leaves the re-sync.
            unsure: is called once a request may still be applied after its call has come back.
            touched: keys that no application names, in their canonical form; none of them is deleted in the source.
        """
        guard = WriteGuard(check, unsure)
        if primary == "source":
            return Resync(
                self.source,
                self.target,
                self.mapper,
                throttle=self.throttle,
                on_conflict=self.on_conflict,
                ownership=self.ownership,
                sent=self._sent,
                sent_before=self._sent_before,
                tolerance=self.tolerance,
                guard=guard,
                refused_are_absent=True,
            )
        return ReverseResync(
            Source(self.target),
            self._writable_source(),
            ReverseMapper(self.mapping, self.source.capabilities, tolerance=self.tolerance),
            throttle=replace(self.throttle, source=self.throttle.target, target=self.throttle.source),
            tolerance=self._source_tolerance,
            guard=guard,
            touched=touched,
        )

    def close(self) -> None:
        """Close the source if it was opened for writing; may be called twice."""
        self._closing.close()
        self._opened = None

    def _writable_source(self) -> Database:
        if self._opened is None:
            opened = self._closing.enter_context(self._open_source())
            self.throttle.source.call(opened.probe)
            self._opened = opened
        return self._opened
