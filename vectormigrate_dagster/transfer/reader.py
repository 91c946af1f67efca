"""Read one split ahead of the writes: bounded, retried from the last id, and checked for order."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import BrokenScan, DatabaseError, Stopped
from vectormigrate_dagster.model import Batch, Id, Split, id_text
from vectormigrate_dagster.transfer.guard import NoGuard, PageGuard
from vectormigrate_dagster.transfer.throttle import BatchSize, Interrupt, Throttle

PAGE_RECORDS = 16_384
PAGE_BYTES = 8 * 2**20
"""Most records and bytes that are read at once by who reads to the end: a server takes about as long for a thousand."""

_LOOKED_AT = 16
"""Payloads of a page whose size is looked at."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """A batch on its way: a page of the source, or a piece of one.

    Args:
        number: counted from 1.
        token: what the guard said before the page was read.
        batch: the records.
        last: the last id of the batch, vanished ones included, in text form.
        frees: bytes of vectors in the page, if this is the last piece of it; None if there are more.
    """

    number: int
    token: int
    batch: Batch
    last: str
    frees: int | None


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
    """Reads the pages of a split, in order, in one thread, and hands them on in batches.

    A page is as large as its bytes, the source and the rate limit allow, because each one costs the source a search
    for its beginning; a batch is what one write holds. The first page is one batch: only then is the size of a record
    known.

    Args:
        after: text of the last id that is not wanted any more.
        batch_records: records that are handed on at once.
        page_records, page_bytes: most records, and bytes, in a page of more than one batch.
        ends: set to end reading at the next page boundary, or in the middle of a wait.
        doubts: how often the end of a scan is believed only if a new scan finds one as well: a server may end one early
            without a word, as Milvus did whose collection was released in between. Not for ever, as somebody may be
            adding records.
    """

    def __init__(
        self,
        source: Source,
        split: Split,
        *,
        after: str | None,
        batch_records: int,
        page_records: int,
        page_bytes: int,
        throttle: Throttle,
        guard: PageGuard,
        budget: Budget,
        ends: Interrupt,
        doubts: int = 0,
    ) -> None:
        self._source = source
        self._split = split
        self._batch_records = batch_records
        self._page_bytes = page_bytes
        self._throttle = throttle
        self._guard = guard
        self._budget = budget
        self._ends = ends
        self._after = after
        self._scan: Iterator[Batch] | None = None
        self._scanned = 0
        self._doubts = doubts
        self._adaptive = BatchSize(max(batch_records, min(page_records, source.capabilities.max_page_records)))
        self._fitting = batch_records

    def batches(self) -> Iterator[Read]:
        """Yield batches until the split's end.

        Raises:
            BrokenScan: ids came twice, out of order or from outside of the split.
            Stopped: `ends` was set before the split's end.
        """
        number = 0
        try:
            while True:
                self._budget.reserve(lambda: self._ends.is_set)
                if self._ends.is_set:
                    raise Stopped(f"reading {self._split} was stopped after id {self._after!r}; run it again to go on")
                token = self._guard.before_read()
                page = self._throttle.source.call(self._pull, sleep=self._ends.sleep)
                if page is None:
                    return
                self._after = self._checked(page)
                self._budget.hold(page.nbytes)
                self._throttle.rate.acquire(len(page) + len(page.vanished), sleep=self._ends.sleep)
                self._fitting = self._page_bytes // _record_bytes(page)
                for batch, last, frees in self._pieces(page, self._after):
                    number += 1
                    yield Read(number=number, token=token, batch=batch, last=last, frees=frees)
                del page, batch  # or it would live on while the next one is read
        finally:
            self._end_scan()

    def _pull(self) -> Batch | None:
        """The next page, or None at the end. After a failure the scan begins anew after the last id read."""
        size = self._size()
        if not self._scanned // 2 < size < self._scanned * 2:
            self._end_scan()
        if self._scan is None:
            self._scan = iter(self._source.scan(self._split, self._after, size))
            self._scanned = size
        try:
            page = next(self._scan, None)
            if page is None and self._doubts:
                self._doubts -= 1
                self._scan = iter(self._source.scan(self._split, self._after, size))
                page = next(self._scan, None)
        except DatabaseError as error:
            if error.transient:
                self._adaptive.shrink(self._scanned)
            self._end_scan()
            raise
        self._adaptive.grow()
        return page

    def _size(self) -> int:
        """Records of the next page."""
        rate = self._throttle.rate.rate
        a_second = math.inf if rate is None else rate
        return max(1, min(self._adaptive.records, max(self._batch_records, int(min(self._fitting, a_second)))))

    def _pieces(self, page: Batch, last: str) -> Iterator[tuple[Batch, str, int | None]]:
        """The page in batches, each with its last id and, at the end of the page, the page's bytes."""
        size = self._batch_records
        if page.vanished or len(page) <= size:
            yield page, last, page.nbytes
            return
        for start in range(0, len(page), size):
            batch = page.slice(start, min(start + size, len(page)))
            ends = start + size >= len(page)
            yield batch, id_text(batch.ids[len(batch) - 1]), page.nbytes if ends else None

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
        if not batch.ids.is_strictly_ascending():
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


def _record_bytes(page: Batch) -> int:
    """Bytes of a record: of its vectors on average, and of the payloads of a few records about."""
    few = page.payloads[:: max(1, len(page) // _LOOKED_AT)]
    return 1 + page.nbytes // max(1, len(page)) + sum(len(repr(payload)) for payload in few) // max(1, len(few))


def read_split(
    source: Source,
    split: Split,
    *,
    throttle: Throttle,
    after: str | None = None,
    batch_records: int = 1000,
    page_records: int = 0,
) -> Iterator[Batch]:
    """Yield a split's batches in the caller's thread, retried and checked like those of a transfer.

    Args:
        source: what is read.
        split: which part of it.
        throttle: retry policy, rate, and what ends reading.
        after: text of the last id that is not wanted any more.
        batch_records: records of a batch.
        page_records: most records that are read at once, as far as `PAGE_BYTES` allow; for who reads to the end.

    Raises:
        BrokenScan: ids came twice, out of order or from outside of the split.
        Stopped: `throttle.interrupt` ended it before the split's end.
    """
    budget = Budget(pages=1, bytes=1)
    reader = PageReader(
        source,
        split,
        after=after,
        batch_records=batch_records,
        page_records=page_records,
        page_bytes=PAGE_BYTES if page_records else 0,
        throttle=throttle,
        guard=NoGuard(),
        budget=budget,
        ends=throttle.interrupt,
    )
    for read in reader.batches():
        if read.frees is not None:
            budget.release(read.frees)
        yield read.batch
