"""The threads of one transfer: one reads, one cuts and maps, some write, and results come out in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.errors import ValidationFailed
from vectormigrate_dagster.model import Batch, IdColumn, id_text
from vectormigrate_dagster.transfer.limits import BatchSize
from vectormigrate_dagster.transfer.mapper import Mapped, Mapper
from vectormigrate_dagster.transfer.rate import SLICE_SECONDS
from vectormigrate_dagster.transfer.reader import Budget, Page, PageReader, Piece, cut
from vectormigrate_dagster.transfer.sent import SentLog
from vectormigrate_dagster.transfer.throttle import Interrupt
from vectormigrate_dagster.transfer.tuning import Tuner
from vectormigrate_dagster.transfer.writer import BatchWriter, Written

Moving = Callable[[IdColumn, str | None], Collection[str]]

MAPPED_AHEAD = 2
"""Batches that are mapped before somebody has time to write them."""


@dataclass(frozen=True)
class Done:
    """A batch that is acknowledged."""

    piece: Piece
    refused: tuple[Refusal, ...]
    written: list[Written]


class Line:
    """The threads of one transfer; results come out in the order of reading.

    The next page is asked for while the one before is mapped and written. A page is cut late, so that a batch is as
    large as was found best by then.

    Args:
        sent: see `pipeline.transfer_split`.
        tuner: is told how large records are.
        batch: how large the next batch is.
        moving: see `SplitGuard.moving`; None where nobody writes to the source.
        room: bounds the batches between the cut and the end of their write.
    """

    def __init__(
        self,
        reader: PageReader,
        mapper: Mapper,
        writer: BatchWriter,
        *,
        sent: SentLog | None,
        tuner: Tuner,
        batch: BatchSize,
        room: Budget,
        ends: Interrupt,
        writers: int,
        verify_every: int,
        moving: Moving | None = None,
    ) -> None:
        self._reader = reader
        self._mapper = mapper
        self._writer = writer
        self._sent = sent
        self._tuner = tuner
        self._room = room
        self._ends = ends
        self._batch = batch
        self._verify_every = verify_every
        self._moving = moving
        self._pages: SimpleQueue[Page | None] = SimpleQueue()
        self._in_order: SimpleQueue[Future[Done] | None] = SimpleQueue()
        self._read_pool = ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-read")
        self._map_pool = ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-map")
        self._write_pool = ThreadPoolExecutor(writers, thread_name_prefix="vectormigrate-write")
        self._reading: Future[None] = Future()
        self._mapping: Future[None] = Future()

    def start(self) -> None:
        """Begin to read."""
        self._reading = self._read_pool.submit(self._read)
        self._mapping = self._map_pool.submit(self._map_pages)

    def next(self, look: Callable[[], None]) -> Done | None:
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
            self._mapping.result()  # of an error there, reading knows nothing
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
            for page in self._reader.pages():
                self._pages.put(page)
                del page  # or it would live on while the next one is read
        finally:
            self._pages.put(None)

    def _map_pages(self) -> None:
        number = 0
        try:
            while (page := self._pages.get()) is not None:
                self._tuner.weigh(page.record_bytes)
                for piece in self._cut(page):
                    number += 1
                    self._in_order.put(self._write_pool.submit(self._write, number, piece, self._map(piece)))
                    del piece
                del page
        finally:
            self._in_order.put(None)

    def _cut(self, page: Page) -> Iterator[Piece]:
        """The page in batches, each as soon as there is room for it.

        Raises:
            Stopped: somebody asked the transfer to end.
        """
        pieces = cut(page, lambda: self._batch.records)
        while True:
            self._room.reserve(lambda: self._ends.is_set)
            self._ends.sleep(0)
            piece = next(pieces, None)
            if piece is None:
                self._room.release(0)
                return
            yield piece
            del piece

    def _map(self, piece: Piece) -> Mapped:
        mapped = self._mapper.map(piece.batch)
        records = sum(map(len, mapped.batches)) + len(mapped.refused)
        if records != len(piece.batch):
            raise ValidationFailed(
                f"the mapping made {records} records out of the {len(piece.batch)} up to id '{piece.last}'; "
                "each record must be written or refused"
            )
        return mapped

    def _write(self, number: int, piece: Piece, mapped: Mapped) -> Done:
        try:
            seed = number if self._verify_every > 0 and number % self._verify_every == 0 else None
            if self._sent is not None:
                self._sent.record(piece.batch.ids, piece.batch.scope)
            moving = None if self._moving is None else partial(self._in_motion, self._moving, piece)
            written = [self._writer.write(part, verify=seed, moving=moving) for part in mapped.batches]
            refused = list(mapped.refused)
            for part, result in zip(mapped.batches, written, strict=True):
                refused += self._by_source(piece, part, result.refused)
            return Done(piece, tuple(refused), written)
        finally:
            self._room.release(0)

    def _in_motion(self, moving: Moving, piece: Piece, part: Batch) -> set[str]:
        """Which records of a mapped batch an application has written since, by their ids in the target."""
        originals = [original for _, original in self._mapper.original_ids(part)]
        named = moving(IdColumn.of(piece.batch.ids.kind, originals), piece.batch.scope)
        pairs = zip(part.ids.to_pylist(), originals, strict=True)
        return {id_text(value) for value, original in pairs if id_text(original) in named}

    def _by_source(self, piece: Piece, part: Batch, refusals: Sequence[Refusal]) -> list[Refusal]:
        """The target's refusals by the records' original ids and scope."""
        reasons = {refusal.id: refusal.reason for refusal in refusals}
        if not reasons:
            return []
        refused = part.take([row for row, value in enumerate(part.ids.to_pylist()) if id_text(value) in reasons])
        pairs = zip(refused.ids.to_pylist(), self._mapper.original_ids(refused), strict=True)
        return [
            Refusal(id_text(original), reasons[id_text(value)], piece.batch.scope) for value, (_, original) in pairs
        ]
