"""Move one split: read, map and write at the same time, in bounded memory, and report what is safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from vectormigrate_dagster.databases import Database, Refusal, Source
from vectormigrate_dagster.errors import ValidationFailed
from vectormigrate_dagster.model import Batch, Split, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.transfer.guard import NoGuard, PageGuard
from vectormigrate_dagster.transfer.heap import keep_heap_small, look_for_cycles_seldom
from vectormigrate_dagster.transfer.mapper import Mapped, Mapper
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.rate import SLICE_SECONDS
from vectormigrate_dagster.transfer.reader import PAGE_BYTES, PAGE_RECORDS, Budget, PageReader, Read
from vectormigrate_dagster.transfer.throttle import Interrupt, Stop, Throttle, never
from vectormigrate_dagster.transfer.writer import BatchWriter, OnConflict, Written

_DOUBTS = 3
_VANISHED = "the source listed it, and could not give it when it was asked for it several times"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much a transfer does at once.

    Args:
        batch_records: records that are mapped, written and acknowledged at once.
        page_records, page_bytes: most records, and bytes, that are read from the source at once; a page holds at
            least one batch.
        writers: batches that are written at once, while the target keeps up; one on an embedded database.
        max_pages, max_bytes: most pages, and bytes of vectors, between the source and the last checkpoint.
    """

    batch_records: int = 1000
    page_records: int = PAGE_RECORDS
    page_bytes: int = PAGE_BYTES
    writers: int = 4
    max_pages: int = 3
    max_bytes: int = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything up to and including `after` is accounted for and needs no second look.

    Numbers count from the beginning of this call of `transfer_split`; `refused` and `gone` are new since the last
    checkpoint.

    Args:
        after: the last id of the source that is accounted for, in text form: where a resume goes on.
        acknowledged: records that the target has accepted durably.
        batches: batches of the source.
        bytes: bytes of vectors sent.
        skipped: records left alone because the target held somebody else's under that id.
        refused: records that the mapping or the target refused, by their ids and scope in the source.
        vanished: records that the source listed and could no longer give.
        gone: those of them that are new, by their ids and scope.
        seconds: since the beginning.
    """

    after: str
    acknowledged: int = 0
    batches: int = 0
    bytes: int = 0
    skipped: int = 0
    refused: tuple[Refusal, ...] = ()
    vanished: int = 0
    gone: tuple[Refusal, ...] = ()
    seconds: float = 0.0


def transfer_split(
    *,
    source: Source,
    target: Database,
    mapper: Mapper,
    split: Split,
    after: str | None = None,
    settings: Settings = Settings(),
    on_conflict: OnConflict = "fail",
    ownership: OwnershipLog | None = None,
    guard: PageGuard | None = None,
    throttle: Throttle | None = None,
    stop: Stop = never,
    verify_every: int = 0,
    tolerance: Tolerance = EXACT,
) -> Generator[Checkpoint]:
    """Move the records of a split that come after `after`; yield a checkpoint per batch, in order.

    A checkpoint is yielded when its batch and all batches before it are acknowledged. Work goes on in threads
    while the caller records a checkpoint, until the bounds of `settings` are reached; closing the iterator ends them.

    Args:
        source: what is read; only `scan` is called.
        target: what is written.
        mapper: makes records of the target out of records of the source.
        split: what to move.
        after: `Checkpoint.after` of the work that is done; None begins at the split's beginning.
        settings: how much to do at once.
        on_conflict: what to do with a record of somebody else under one of our ids; needs `ownership`.
        ownership: the partition's log; None where this migration created the collection.
        guard: is told of every page that is read and every batch that is acknowledged.
        throttle: retries, batch size and rate; may be shared and changed while work runs.
        stop: is asked in the caller's thread, before each checkpoint and about twice a second; once it says True,
            every wait ends and no new call is made.
        verify_every: read a sample of every n-th batch back and compare it; 0 never does.
        tolerance: what the comparison demands.

    Raises:
        Stopped: `stop` said True before all was acknowledged; calls that were under way have come to their end.
        ValidationFailed: a batch read back differs from what was sent, or the mapping lost a record.
        BrokenScan: the source broke the order that a complete scan relies on.
        VectorMigrateError: anything else that a database, the mapping or a disk said; resumable.
    """
    keep_heap_small()
    look_for_cycles_seldom()
    guard, throttle = guard or NoGuard(), throttle or Throttle.of(batch_records=settings.batch_records)
    budget = Budget(pages=settings.max_pages, bytes=settings.max_bytes)
    ends = Interrupt()
    reader = PageReader(
        source,
        split,
        after=after,
        batch_records=settings.batch_records,
        page_records=settings.page_records,
        page_bytes=settings.page_bytes,
        throttle=throttle,
        guard=guard,
        budget=budget,
        ends=ends,
        doubts=_DOUBTS,
    )
    writer = BatchWriter(
        target,
        throttle,
        on_conflict=on_conflict,
        ownership=ownership,
        tolerance=tolerance,
        sleep=ends.sleep,
    )

    def end() -> None:
        ends.set()
        budget.wake()

    def look() -> None:
        if stop():
            end()

    writers = 1 if target.capabilities.single_process else settings.writers
    line = _Line(reader, mapper, writer, writers=writers, verify_every=verify_every)
    started, total = time.monotonic(), Checkpoint(after="")
    try:
        look()
        line.start()
        while (done := line.next(look)) is not None:
            guard.after_ack(done.read.token, split, last=done.read.frees is not None)
            if done.read.frees is not None:
                budget.release(done.read.frees)
            total = _add(total, done, time.monotonic() - started)
            del done  # or its page would live on while the caller records the checkpoint
            yield total
        # Whoever looks at the target next does so with another object, which cannot know what it has to wait for.
        throttle.target.call(target.wait_visible, sleep=ends.sleep)
    finally:
        end()
        line.join()


@dataclass(frozen=True)
class _Done:
    """A batch that is acknowledged."""

    read: Read
    refused: tuple[Refusal, ...]
    written: list[Written]


class _Line:
    """The threads of one transfer: one reads, one maps, some write; results come out in the order of reading.

    Each stage is a pool that takes its work in order, so a write that waits for its mapping never waits for ever.
    """

    def __init__(
        self, reader: PageReader, mapper: Mapper, writer: BatchWriter, *, writers: int, verify_every: int
    ) -> None:
        self._reader = reader
        self._mapper = mapper
        self._writer = writer
        self._verify_every = verify_every
        self._in_order: SimpleQueue[Future[_Done] | None] = SimpleQueue()
        self._read_pool = ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-read")
        self._map_pool = ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-map")
        self._write_pool = ThreadPoolExecutor(writers, thread_name_prefix="vectormigrate-write")
        self._reading: Future[None] = Future()

    def start(self) -> None:
        """Begin to read."""
        self._reading = self._read_pool.submit(self._read)

    def next(self, look: Callable[[], None]) -> _Done | None:
        """Wait for the next batch that is acknowledged; None at the end of the split. Raises what a stage raised.

        Args:
            look: is called first, and every half a second of the wait.
        """
        look()
        while True:
            try:
                future = self._in_order.get(timeout=SLICE_SECONDS)
                break
            except Empty:
                look()
        if future is None:
            self._reading.result()
            return None
        while not wait([future], SLICE_SECONDS).done:
            look()
        return future.result()

    def join(self) -> None:
        """End the threads; calls to a database that are under way are waited for, waiting work is dropped."""
        for pool in (self._read_pool, self._map_pool, self._write_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self) -> None:
        try:
            for read in self._reader.batches():
                mapping = self._map_pool.submit(self._map, read)
                self._in_order.put(self._write_pool.submit(self._write, read, mapping))
        finally:
            self._in_order.put(None)

    def _map(self, read: Read) -> Mapped:
        mapped = self._mapper.map(read.batch)
        records = sum(map(len, mapped.batches)) + len(mapped.refused)
        if records != len(read.batch):
            raise ValidationFailed(
                f"the mapping made {records} records out of the {len(read.batch)} up to id '{read.last}'; "
                "each record must be written or refused"
            )
        return mapped

    def _write(self, read: Read, mapping: Future[Mapped]) -> _Done:
        mapped = mapping.result()
        verified = self._verify_every > 0 and read.number % self._verify_every == 0
        seed = read.number if verified else None
        written = [self._writer.write(part, verify=seed) for part in mapped.batches]
        refused = list(mapped.refused)
        for part, result in zip(mapped.batches, written, strict=True):
            refused += self._by_source(read, part, result.refused)
        return _Done(read, tuple(refused), written)

    def _by_source(self, read: Read, part: Batch, refusals: Sequence[Refusal]) -> list[Refusal]:
        """The target's refusals by the records' original ids and scope."""
        reasons = {refusal.id: refusal.reason for refusal in refusals}
        if not reasons:
            return []
        refused = part.take([row for row, value in enumerate(part.ids.to_pylist()) if id_text(value) in reasons])
        pairs = zip(refused.ids.to_pylist(), self._mapper.original_ids(refused), strict=True)
        return [Refusal(id_text(original), reasons[id_text(value)], read.batch.scope) for value, (_, original) in pairs]


def _add(total: Checkpoint, done: _Done, seconds: float) -> Checkpoint:
    """The checkpoint after one more batch."""
    return replace(
        total,
        after=done.read.last,
        acknowledged=total.acknowledged + sum(part.acknowledged for part in done.written),
        batches=total.batches + 1,
        bytes=total.bytes + sum(part.bytes for part in done.written),
        skipped=total.skipped + sum(part.skipped for part in done.written),
        refused=done.refused,
        vanished=total.vanished + len(done.read.batch.vanished),
        gone=tuple(Refusal(text, _VANISHED, done.read.batch.scope) for text in done.read.batch.vanished),
        seconds=seconds,
    )
