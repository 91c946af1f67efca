"""Take back what a migration wrote, and nothing else.

Where the target held records before, the ownership log says what stood under each id that we wrote. Where the whole
collection is ours, the source says what we wrote, as far as the load may have come. In both cases a record is only
touched if what stands there now is what we have written: a record that somebody has changed since is theirs. It is left
as it is, and named.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from vectormigrate_dagster.databases import Database, Refusal, Source
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, Split, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance, compare
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer.guard import NO_GUARD, WriteGuard
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.ownership import Entry, OwnershipLog
from vectormigrate_dagster.transfer.rate import SLICE_SECONDS
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Interrupt, Stop, Throttle, never
from vectormigrate_dagster.transfer.writer import BatchWriter

WORKERS = 5
"""Batches that are taken back at once, as the original tool did."""

_CHANGED = "it is not what was written: somebody has changed it since, or it cannot be told any more"
_BATCH_RECORDS = 1000

_LAST_ENTRIES = 32
"""More than belong to the batches that a load has under way at once, two at most to each."""


@dataclass(frozen=True, kw_only=True)
class Undone:
    """Everything up to and including `after` is as it was before, but for what is named in `left`.

    Args:
        after: where a resume goes on.
        undone: records that are as they were before, counted from the beginning of this call.
        left: records that were left as they are, by their ids in the target; new since the last checkpoint.
    """

    after: str
    undone: int
    left: tuple[Refusal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """A batch of work, its name as a checkpoint, and how to do it."""

    after: str
    work: Callable[[], tuple[int, list[Refusal]]]


class Rollback:
    """Takes back what was written into one target; an object does this once.

    Args:
        target: what was written.
        mapper: makes records of the target out of records of the source.
        source: opens the source; called once, when it is needed. Ownership logs seldom need it.
        tolerance: how far what stands there may be from what was written; what it covers is what the target itself does
            to vectors.
        workers: batches that are taken back at once; one on an embedded database.
        throttle: retries and rate.
        stop: as of `transfer_split`.
        guard: is asked before each request that writes.
    """

    def __init__(
        self,
        target: Database,
        mapper: Mapper,
        source: Callable[[], Source],
        *,
        tolerance: Tolerance = EXACT,
        workers: int = WORKERS,
        throttle: Throttle | None = None,
        stop: Stop = never,
        guard: WriteGuard = NO_GUARD,
    ) -> None:
        self._target = target
        self._mapper = mapper
        self._open_source = source
        self._opened: Source | None = None
        self._opening = threading.Lock()
        self._tolerance = tolerance
        self._throttle = throttle or Throttle()
        self._workers = 1 if target.capabilities.single_process else workers
        self._stop = stop
        self._ends = Interrupt()
        self._writer = BatchWriter(
            target,
            self._throttle,
            on_conflict="overwrite",
            ownership=None,
            tolerance=tolerance,
            sleep=self._ends.sleep,
            guard=guard,
        )

    def logs(
        self, logs: Sequence[OwnershipLog], known: Sequence[OwnershipLog], *, after: str | None = None
    ) -> Generator[Undone]:
        """Take back what ownership logs tell; yield a checkpoint per entry, in order.

        Args:
            logs: the logs, each of one folder, in an order that stays the same.
            known: `logs`, and all others in which one of their records may be noted as written again.
            after: `Undone.after` of the work that is done.

        Raises:
            Stopped: `stop` said True; calls that were under way have come to their end.
            VectorMigrateError: what a database or a disk said; resumable.
        """
        yield from self._in_order(self._entries(logs, known, after))

    def split(self, split: Split, sent: Callable[[Batch], Mask], *, after: str | None = None) -> Generator[Undone]:
        """Take back what was sent of a split into a collection that is all ours; yield a checkpoint per batch.

        Args:
            split: what was moved.
            sent: which records of the source may have been sent.
            after: `Undone.after` of the work that is done.

        Raises:
            Stopped: as of `logs`.
            VectorMigrateError: as of `logs`.
        """
        yield from self._in_order(self._batches(split, sent, after))

    def _in_order(self, pieces: Iterator[_Piece | None]) -> Generator[Undone]:
        """Do pieces side by side; yield their outcomes one after the other. At a None all before it are waited for."""
        undone = 0
        under_way: deque[tuple[str, Future[tuple[int, list[Refusal]]]]] = deque()
        self._look()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="vectormigrate-undo")
        try:
            # An earlier writer may have been killed before it had waited.
            self._throttle.target.call(self._target.wait_visible, sleep=self._ends.sleep)
            for piece in chain(pieces, [None]):
                if piece is not None:
                    self._ends.sleep(0)
                    under_way.append((piece.after, pool.submit(piece.work)))
                while under_way and (piece is None or len(under_way) > self._workers):
                    after, future = under_way.popleft()
                    while not wait([future], SLICE_SECONDS).done:
                        self._look()
                    records, left = future.result()
                    undone += records
                    self._look()
                    yield Undone(after=after, undone=undone, left=tuple(left))
            self._throttle.target.call(self._target.wait_visible, sleep=self._ends.sleep)
        finally:
            self._ends.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _look(self) -> None:
        if self._stop():
            self._ends.set()

    ############
    # By the log
    ############

    def _entries(
        self, logs: Sequence[OwnershipLog], known: Sequence[OwnershipLog], after: str | None
    ) -> Iterator[_Piece | None]:
        for log in logs:
            name = after or ""
            for name, entry in entries_after([log], after):
                yield _Piece(after=name, work=partial(self._undo_entry, entry, known))
            # What a killed load had under way may have arrived after its entry was looked at.
            yield None
            if not _is_behind(log, after):
                for entry in log.newest(_LAST_ENTRIES):
                    yield _Piece(after=name, work=partial(self._look_again, entry, known))

    def _undo_entry(self, entry: Entry, known: Sequence[OwnershipLog]) -> tuple[int, list[Refusal]]:
        batch = entry.batch
        self._throttle.rate.acquire(len(batch), sleep=self._ends.sleep)
        found = self._fetch(batch.ids, batch.scope)
        left = self._restore(batch, found, known) if entry.form == "before" else self._remove(found, known)
        return len(batch) - len(left), left

    def _look_again(self, entry: Entry, known: Sequence[OwnershipLog]) -> tuple[int, list[Refusal]]:
        self._undo_entry(entry, known)
        return 0, []

    def _remove(self, found: Batch, known: Sequence[OwnershipLog]) -> list[Refusal]:
        """Delete what we wrote where nothing stood before; return what is somebody else's by now."""
        ours = self._is_ours(found, known)
        self._writer.delete(found.ids.take(np.flatnonzero(ours)), found.scope)
        return _left(found, ~ours, _CHANGED)

    def _restore(self, images: Batch, found: Batch, known: Sequence[OwnershipLog]) -> list[Refusal]:
        """Write back what we overwrote; return what could not be, or is somebody else's by now.

        An image whose id holds nothing is written as well: a load that was killed while it replaced the record looks
        the same, and whoever deleted the record on purpose can do so again.
        """
        before = dict(zip(images.ids.to_pylist(), record_digests(images), strict=True))
        now = dict(zip(found.ids.to_pylist(), record_digests(found), strict=True))
        changed = np.array([now[key] != before[key] for key in found.ids.to_pylist()], dtype=np.bool_)
        ours = changed.copy()
        ours[changed] = self._is_ours(found.take(np.flatnonzero(changed)), known)
        theirs = changed & ~ours
        # What a database makes of a record that is written back may differ in the last bits: see `Tolerance`.
        theirs[theirs] = ~_equal(images, found.take(np.flatnonzero(theirs)), self._tolerance)
        keep = {key for key, overwritten in zip(found.ids.to_pylist(), ours, strict=True) if not overwritten}
        back = images.take([row for row, key in enumerate(images.ids.to_pylist()) if key not in keep])
        return [*_left(found, theirs, _CHANGED), *(self._writer.write(back).refused if len(back) else ())]

    def _is_ours(self, found: Batch, known: Sequence[OwnershipLog]) -> Mask:
        """Which records stand there as we wrote them: bool (n,)."""
        ours = np.zeros(len(found), dtype=np.bool_)
        if len(found):
            written = record_digests(found)
            for log in known:
                ours |= log.wrote_records(written)
        rows = np.flatnonzero(~ours)
        if len(rows):
            ours[rows] = self._is_promised(found.take(rows))
        return ours

    def _is_promised(self, found: Batch) -> Mask:
        """Which records are what the mapping makes of the source as it is now: bool (n,).

        The log's digests are of what was sent. A target that changes vectors, within the tolerance, is only found out
        by comparing.
        """
        equal = np.zeros(len(found), dtype=np.bool_)
        for (scope, kind), values in _originals(self._mapper, found).items():
            ids = IdColumn.of(kind, sorted(values))
            fetch = partial(self._source.fetch, ids, scope)
            read = self._throttle.source.call(fetch, sleep=self._ends.sleep).batch
            for part in self._mapper.map(replace(read, scope=scope)).batches if len(read) else ():
                if part.scope == found.scope and part.ids.kind is found.ids.kind:
                    equal |= _equal(part, found, self._tolerance)
        return equal

    ###############
    # By the source
    ###############

    def _batches(self, split: Split, sent: Callable[[Batch], Mask], after: str | None) -> Iterator[_Piece | None]:
        throttle = replace(self._throttle, interrupt=self._ends)
        records = min(throttle.batch.records, self._target.capabilities.max_batch_records, _BATCH_RECORDS)
        for batch in read_split(self._source, split, throttle=throttle, after=after, batch_records=records):
            if len(batch):
                chosen = batch.take(np.flatnonzero(sent(batch)))
                yield _Piece(after=id_text(batch.ids[len(batch) - 1]), work=partial(self._undo_batch, chosen))

    def _undo_batch(self, batch: Batch) -> tuple[int, list[Refusal]]:
        undone, left = 0, list[Refusal]()
        for part in self._mapper.map(batch).batches if len(batch) else ():
            found = self._fetch(part.ids, part.scope)
            ours = _equal(part, found, self._tolerance)
            self._writer.delete(found.ids.take(np.flatnonzero(ours)), part.scope)
            left += _left(found, ~ours, _CHANGED)
            undone += len(part) - int((~ours).sum())
        return undone, left

    ###########
    # The calls
    ###########

    @property
    def _source(self) -> Source:
        """The source; of several threads that need it, the first one opens it."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open_source()
            return self._opened

    def _fetch(self, ids: IdColumn, scope: str | None) -> Batch:
        self._ends.sleep(0)
        fetch = partial(self._target.fetch, ids, scope)
        return replace(self._throttle.target.call(fetch, sleep=self._ends.sleep).batch, scope=scope)


def entries_after(logs: Iterable[OwnershipLog], after: str | None) -> Iterator[tuple[str, Entry]]:
    """Yield what comes after a checkpoint `after` in logs, each entry with the checkpoint that it makes."""
    done, _, number = (after or "").rpartition("/")
    for log in logs:
        if not _is_behind(log, after):
            for entry in log.entries(int(number) if log.folder.name == done else -1):
                yield f"{log.folder.name}/{entry.number:08}", entry


def _is_behind(log: OwnershipLog, after: str | None) -> bool:
    """Whether a checkpoint says that all of a log was taken back."""
    return after is not None and log.folder.name < after.rpartition("/")[0]


def _equal(promised: Batch, found: Batch, tolerance: Tolerance) -> Mask:
    """Which of the records that were found are promised, and as promised: bool (n,)."""
    if len(found) == 0:
        return np.zeros(0, dtype=np.bool_)
    comparison = compare(promised, found, tolerance=tolerance)
    wrong = {difference.id for difference in comparison.differences}.union(comparison.extra)
    texts = map(id_text, found.ids.to_pylist())
    return np.fromiter((text not in wrong for text in texts), dtype=np.bool_, count=len(found))


def _originals(mapper: Mapper, found: Batch) -> dict[tuple[str | None, IdKind], set[Id]]:
    """Source ids, by scope and kind, of those records that the mapping may have made."""
    originals: dict[tuple[str | None, IdKind], set[Id]] = defaultdict(set)
    for row, scope in enumerate(mapper.original_scopes(found)):
        try:
            ((kind, value),) = mapper.original_ids(found.take([row]))
        except RefusedId:
            continue
        originals[scope, kind].add(value)
    return originals


def _left(batch: Batch, mask: Mask, reason: str) -> list[Refusal]:
    chosen = batch.ids.take(np.flatnonzero(mask)).to_pylist()
    return [Refusal(id_text(value), reason, batch.scope) for value in chosen]
