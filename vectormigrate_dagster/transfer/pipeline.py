"""Move one split: read, map and write at the same time, in bounded memory, and report what is safe."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace

from vectormigrate_dagster.databases import Database, Refusal, Source
from vectormigrate_dagster.model import Split
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.transfer.guard import NO_GUARD, SplitGuard
from vectormigrate_dagster.transfer.heap import keep_heap_small, look_for_cycles_seldom
from vectormigrate_dagster.transfer.line import MAPPED_AHEAD, Done, Line
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.reader import PAGE_BYTES, PAGE_RECORDS, Budget, PageReader
from vectormigrate_dagster.transfer.sent import SentLog
from vectormigrate_dagster.transfer.throttle import Interrupt, Stop, Throttle, never
from vectormigrate_dagster.transfer.tuning import Found, Tuner
from vectormigrate_dagster.transfer.writer import BatchWriter, OnConflict

_DOUBTS = 3
_VANISHED = "the source listed it, and could not give it when it was asked for it several times"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much a transfer does at once.

    Args:
        batch_records: most records that are mapped, written and acknowledged at once; None leaves that to the target.
            How many there are is found while work runs (`tuning.Tuner`).
        page_records, page_bytes: most records, and bytes, that are read from the source at once; a page holds at
            least one batch.
        writers: most batches that are written at once; one on an embedded database. How many there are is found while
            work runs.
        max_pages, max_bytes: most pages, and bytes of vectors, between the source and the last checkpoint.
    """

    batch_records: int | None = None
    page_records: int = PAGE_RECORDS
    page_bytes: int = PAGE_BYTES
    writers: int = 8
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
    found: Found | None = None,
    on_conflict: OnConflict = "fail",
    ownership: OwnershipLog | None = None,
    sent: SentLog | None = None,
    guard: SplitGuard | None = None,
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
        found: what transfers before this one found best to write at once; is kept up to date.
        on_conflict: what to do with a record of somebody else under one of our ids; needs `ownership`.
        ownership: the partition's log; None where this migration created the collection.
        sent: notes how far a load into such a collection may have come, for a rollback.
        guard: is asked before each write while an application writes to the source; the split counts as moved when it
            has finished, which is when the iterator ends.
        throttle: retries, batch size and rate; its rate may be changed while work runs. One transfer at a time sets its
            batch size; the next may use it again.
        stop: is asked in the caller's thread, before each checkpoint and about twice a second; once it says True,
            every wait ends and no new call is made.
        verify_every: read a sample of every n-th batch back and compare it; 0 never does.
        tolerance: what the comparison demands.

    Raises:
        Stopped: `stop` said True before all was acknowledged; calls that were under way have come to their end.
        LeaseHeld: `guard` says that somebody else has the split; resumable.
        ValidationFailed: a batch read back differs from what was sent, or the mapping lost a record.
        BrokenScan: the source broke the order that a complete scan relies on.
        VectorMigrateError: anything else that a database, the mapping or a disk said; resumable.
    """
    keep_heap_small()
    look_for_cycles_seldom()
    throttle = throttle or Throttle.of(batch_records=settings.batch_records)
    writers = 1 if target.capabilities.single_process else settings.writers
    tuner = Tuner(
        throttle.batch,
        throttle.target.calls,
        most_records=min(settings.batch_records or throttle.batch.most, target.capabilities.max_batch_records),
        most_calls=writers,
        behind=writers + MAPPED_AHEAD,
        found=found,
    )
    budget = Budget(pages=settings.max_pages, bytes=settings.max_bytes)
    room = Budget(pages=writers + MAPPED_AHEAD, bytes=1)
    ends = Interrupt()
    reader = PageReader(
        source,
        split,
        after=after,
        batch_records=lambda: throttle.batch.records,
        page_records=settings.page_records,
        page_bytes=settings.page_bytes,
        throttle=throttle,
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
        tuner=tuner,
        guard=NO_GUARD if guard is None else guard.writes,
    )

    def end() -> None:
        ends.set()
        budget.wake()
        room.wake()

    def look() -> None:
        if stop():
            end()

    line = Line(
        reader,
        mapper,
        writer,
        sent=sent,
        tuner=tuner,
        batch=throttle.batch,
        room=room,
        ends=ends,
        writers=writers,
        verify_every=verify_every,
        moving=None if guard is None else guard.moving,
    )
    started, total = time.monotonic(), Checkpoint(after="")
    try:
        look()
        if guard is not None:
            guard.begin()
        line.start()
        while (done := line.next(look)) is not None:
            if done.piece.frees is not None:
                budget.release(done.piece.frees)
            total = _add(total, done, time.monotonic() - started)
            del done  # or its page would live on while the caller records the checkpoint
            yield total
        # Whoever looks at the target next does so with another object, which cannot know what it has to wait for.
        throttle.target.call(target.wait_visible, sleep=ends.sleep)
        if guard is not None:
            guard.finish()
    finally:
        end()
        line.join()


def _add(total: Checkpoint, done: Done, seconds: float) -> Checkpoint:
    """The checkpoint after one more batch."""
    return replace(
        total,
        after=done.piece.last,
        acknowledged=total.acknowledged + sum(part.acknowledged for part in done.written),
        batches=total.batches + 1,
        bytes=total.bytes + sum(part.bytes for part in done.written),
        skipped=total.skipped + sum(part.skipped for part in done.written),
        refused=done.refused,
        vanished=total.vanished + len(done.piece.batch.vanished),
        gone=tuple(Refusal(text, _VANISHED, done.piece.batch.scope) for text in done.piece.batch.vanished),
        seconds=seconds,
    )
