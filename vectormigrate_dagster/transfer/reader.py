"""Read one split ahead of the writes: bounded, retried from the last id, and checked for order."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import BrokenScan, DatabaseError, Stopped
from vectormigrate_dagster.model import Batch, Id, Split, id_text
from vectormigrate_dagster.transfer.limits import BatchSize
from vectormigrate_dagster.transfer.rate import Clock
from vectormigrate_dagster.transfer.throttle import Interrupt, Throttle

PAGE_RECORDS = 16_384
PAGE_BYTES = 6 * 2**20
"""Most records and bytes that are read at once by who reads to the end: a server takes about as long for a thousand."""

_PAGE_SECONDS = 4.0
"""Seconds that a page of more than one batch takes at most, as far as the pages before tell."""

_LEAST_SECONDS = 1e-6  # no page is quicker than a clock can tell

_SETTLED_PAGES = 8
_WORTH_IT = 1.25
"""After so many pages of a scan, and if pages may be larger by so much, a new one is begun with larger pages."""

_LOOKED_AT = 16
"""Payloads of a page whose size is looked at."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the source gave at once.

    Args:
        batch: the records.
        last: the last id, vanished ones included, in text form.
    """

    batch: Batch
    last: str

    @property
    def record_bytes(self) -> int:
        """Bytes of a record: of its vectors on average, and of the payloads of a few records about."""
        few = self.batch.payloads[:: max(1, len(self.batch) // _LOOKED_AT)]
        vectors = self.batch.nbytes // max(1, len(self.batch))
        return 1 + vectors + sum(len(repr(payload)) for payload in few) // max(1, len(few))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A batch on its way: a page of the source, or a part of one.

    Args:
        batch: the records.
        last: the last id, as of `Page`.
        frees: bytes of vectors in the page, if this is the last piece of it; None if there are more.
    """

    batch: Batch
    last: str
    frees: int | None


def cut(page: Page, size: Callable[[], int]) -> Iterator[Piece]:
    """Yield a page in batches, in order.

    Args:
        page: one with vanished records stays whole.
        size: records of the next batch; is asked when that is wanted.
    """
    batch, start = page.batch, 0
    while start < len(batch) or start == 0:
        end = len(batch) if batch.vanished else min(start + size(), len(batch))
        ends = end == len(batch)
        piece = batch if ends and start == 0 else batch.slice(start, end)
        last = page.last if ends else id_text(piece.ids[len(piece) - 1])
        yield Piece(batch=piece, last=last, frees=batch.nbytes if ends else None)
        del piece  # or it would live on until the next one is wanted
        if ends:
            return
        start = end


class Budget:
    """Bounds what is between the source and the last checkpoint, in pages and in bytes of vectors.

    The bound in bytes may be passed by one page, because its size is known only when it is there.
    """

    def __init__(self, *, pages: int, bytes: int) -> None:
        self._pages = pages
        self._bytes = bytes
        self._alive = 0
        self._held = 0
        self._changed = threading.Condition()

    def reserve(self, given_up: Callable[[], bool]) -> None:
        """Wait for room for one more page, or until `given_up` (see `wake`)."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or self._has_room())
            self._alive += 1

    def hold(self, bytes: int) -> None:
        """Note the size of the page that was reserved for."""
        with self._changed:
            self._held += bytes

    def release(self, bytes: int) -> None:
        """Note that a page is gone."""
        with self._changed:
            self._alive -= 1
            self._held -= bytes
            self._changed.notify_all()

    def wake(self) -> None:
        """Let waiters look at `given_up` again."""
        with self._changed:
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._alive == 0 or (self._alive < self._pages and self._held < self._bytes)


class PageReader:
    """Reads the pages of a split, in order, in one thread.

    A page is as large as its bytes, the source, its pace and the rate limit allow, because each one costs the source a
    search for its beginning. The first one is of one batch: only then is the size of a record known.

    Args:
        after: text of the last id that is not wanted any more.
        batch_records: records that are written at once; asked before each page, which holds whole batches if it can.
        page_records, page_bytes: most records, and bytes, in a page of more than one batch.
        ends: set to end reading at the next page boundary, or in the middle of a wait.
        doubts: how often the end of a scan is believed only if a new scan finds one as well: a server may end one early
            without a word, as Milvus did whose collection was released in between. Not for ever, as somebody may be
            adding records.
        repeats: an id may come several times within a page; who looks for that is not to be stopped by it.
        clock: seconds, ascending.
    """

    def __init__(
        self,
        source: Source,
        split: Split,
        *,
        after: str | None,
        batch_records: Callable[[], int],
        page_records: int,
        page_bytes: int,
        throttle: Throttle,
        budget: Budget,
        ends: Interrupt,
        doubts: int = 0,
        repeats: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        self._source = source
        self._split = split
        self._batch_records = batch_records
        self._page_bytes = page_bytes
        self._throttle = throttle
        self._budget = budget
        self._ends = ends
        self._after = after
        self._scan: Iterator[Batch] | None = None
        self._scanned = 0
        self._pages = 0
        self._doubts = 0 if source.capabilities.costly_resume else doubts
        self._repeats = repeats
        self._clock = clock
        batch = batch_records()
        self._adaptive = BatchSize(max(batch, min(page_records, source.capabilities.max_page_records)))
        self._fitting = batch
        self._pace = math.inf

    def pages(self) -> Iterator[Page]:
        """Yield pages until the split's end; their bytes are held in the budget until somebody releases them.

        Raises:
            BrokenScan: ids came twice, out of order or from outside of the split.
            Stopped: `ends` was set before the split's end.
        """
        try:
            while True:
                self._budget.reserve(lambda: self._ends.is_set)
                if self._ends.is_set:
                    raise Stopped(f"reading {self._split} was stopped after id {self._after!r}; run it again to go on")
                batch = self._throttle.source.call(self._pull, sleep=self._ends.sleep)
                if batch is None:
                    return
                self._after = self._checked(batch)
                self._budget.hold(batch.nbytes)
                self._throttle.rate.acquire(len(batch) + len(batch.vanished), sleep=self._ends.sleep)
                page = Page(batch=batch, last=self._after)
                self._fitting = self._page_bytes // page.record_bytes
                yield page
                del page, batch  # or it would live on while the next one is read
        finally:
            self._end_scan()

    def _pull(self) -> Batch | None:
        """The next page, or None at the end. After a failure the scan begins anew after the last id read."""
        size = self._size()
        if self._is_outgrown(size):
            self._end_scan()
        began = self._clock()
        try:
            page = next(self._begun(size), None)
            if page is None and self._doubts:
                self._doubts -= 1
                self._end_scan()
                page = next(self._begun(size), None)
        except DatabaseError as error:
            if error.transient:
                self._adaptive.shrink(self._scanned)
            self._end_scan()
            raise
        self._adaptive.grow()
        self._pages += 1
        if page is not None:
            # A page may have waited for the server's clock, or for a collection to be loaded: so half of it counts.
            pace = len(page) / max(self._clock() - began, _LEAST_SECONDS)
            self._pace = pace if pace > self._pace or math.isinf(self._pace) else (pace + self._pace) / 2
        return page

    def _begun(self, size: int) -> Iterator[Batch]:
        """The scan that is under way; a new one after the last id read if there is none."""
        if self._scan is None:
            self._scan = iter(self._source.scan(self._split, self._after, size))
            self._scanned, self._pages = size, 0
        return self._scan

    def _is_outgrown(self, size: int) -> bool:
        """Whether pages of another size are worth a new scan, which may cost as much as a page."""
        if size > self._scanned and self._source.capabilities.costly_resume:
            return False
        if not self._scanned // 2 < size < self._scanned * 2:
            return True
        return self._pages >= _SETTLED_PAGES and size >= self._scanned * _WORTH_IT

    def _size(self) -> int:
        """Records of the next page."""
        batch = self._batch_records()
        rate = self._throttle.rate.rate
        a_second = math.inf if rate is None else rate
        most = min(self._adaptive.records, int(min(self._fitting, a_second, self._pace * _PAGE_SECONDS, 2**31)))
        return max(1, min(self._adaptive.records, batch), most - most % batch)

    def _end_scan(self) -> None:
        close = getattr(self._scan, "close", None)  # a generator holds a connection until it is closed
        self._scan = None
        if close is not None:
            close()

    def _checked(self, batch: Batch) -> str:
        """Return the page's last id in text form, if its order allows to continue after it."""
        kind = self._split.kind
        before = None if self._after is None else kind.decode(self._after)
        if len(batch) == 0 and not batch.vanished:
            raise BrokenScan(f"{self._source.endpoint} returned an empty page of {self._split} before its end")
        if batch.ids.kind is not kind:
            raise BrokenScan(f"{self._source.endpoint} returned {batch.ids.kind} ids for {self._split}")
        if not (batch.ids.is_ascending() if self._repeats else batch.ids.is_strictly_ascending()):
            raise BrokenScan(f"{self._source.endpoint} returned ids of {self._split} twice or out of order")
        ends: list[Id] = [kind.decode(text) for text in batch.vanished]
        if len(batch):
            ends += [batch.ids[0], batch.ids[len(batch) - 1]]
        for value in ends:
            if not self._split.contains(value):
                raise BrokenScan(
                    f"{self._source.endpoint} returned id '{id_text(value)}', which is not in {self._split}"
                )
            if before is not None and value <= before:  # type: ignore[operator]  # both are of the split's kind
                raise BrokenScan(f"{self._source.endpoint} returned id '{id_text(value)}' after '{self._after}'")
        return id_text(max(ends))


def read_split(
    source: Source,
    split: Split,
    *,
    throttle: Throttle,
    after: str | None = None,
    batch_records: int = 1000,
    page_records: int = 0,
    repeats: bool = False,
) -> Iterator[Batch]:
    """Yield a split's batches in the caller's thread, retried and checked like those of a transfer.

    Args:
        source: what is read.
        split: which part of it.
        throttle: retry policy, rate, and what ends reading.
        after: text of the last id that is not wanted any more.
        batch_records: records of a batch.
        page_records: most records that are read at once, as far as `PAGE_BYTES` allow; for who reads to the end.
        repeats: an id may come several times within a page.

    Raises:
        BrokenScan: ids came twice, out of order or from outside of the split.
        Stopped: `throttle.interrupt` ended it before the split's end.
    """
    budget = Budget(pages=1, bytes=1)
    reader = PageReader(
        source,
        split,
        after=after,
        batch_records=lambda: batch_records,
        page_records=page_records,
        page_bytes=PAGE_BYTES if page_records else 0,
        throttle=throttle,
        budget=budget,
        ends=throttle.interrupt,
        repeats=repeats,
    )
    for page in reader.pages():
        for piece in cut(page, lambda: batch_records):
            if piece.frees is not None:
                budget.release(piece.frees)
            yield piece.batch
