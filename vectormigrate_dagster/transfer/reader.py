"""Read one split ahead of the writes: bounded, retried from the last id, and checked for order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import BrokenScan, DatabaseError, Stopped
from vectormigrate_dagster.model import Batch, Id, Split, id_text
from vectormigrate_dagster.transfer.guard import NoGuard, PageGuard
from vectormigrate_dagster.transfer.throttle import Interrupt, Throttle


@dataclass(frozen=True, kw_only=True)
class Page:
    """A batch on its way.

    Args:
        number: counted from 1.
        token: what the guard said before the page was read.
        last: the last id of the page, vanished ones included, in text form.
    """

    number: int
    token: int
    batch: Batch
    last: str


class Budget:
    """Bounds what is between the source and the last checkpoint, in batches and in bytes of vectors.

    The bound in bytes may be passed by one batch, because its size is known only when it is there.
    """

    def __init__(self, *, batches: int, bytes: int) -> None:
        self._batches = batches
        self._bytes = bytes
        self._alive = 0
        self._held = 0
        self._changed = threading.Condition()

    def reserve(self, given_up: Callable[[], bool]) -> None:
        """Wait for room for one more batch, or until `given_up` (see `wake`)."""
        with self._changed:
            self._changed.wait_for(lambda: given_up() or self._has_room())
            self._alive += 1

    def hold(self, bytes: int) -> None:
        """Note the size of the batch that was reserved for."""
        with self._changed:
            self._held += bytes

    def release(self, bytes: int) -> None:
        """Note that a batch is gone."""
        with self._changed:
            self._alive -= 1
            self._held -= bytes
            self._changed.notify_all()

    def wake(self) -> None:
        """Let waiters look at `given_up` again."""
        with self._changed:
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._alive == 0 or (self._alive < self._batches and self._held < self._bytes)


class PageReader:
    """Reads the pages of a split, in order, in one thread.

    Args:
        after: text of the last id that is not wanted any more.
        ends: set to end reading at the next page boundary, or in the middle of a wait.
    """

    def __init__(
        self,
        source: Source,
        split: Split,
        *,
        after: str | None,
        batch_records: int,
        throttle: Throttle,
        guard: PageGuard,
        budget: Budget,
        ends: Interrupt,
    ) -> None:
        self._source = source
        self._split = split
        self._batch_records = batch_records
        self._throttle = throttle
        self._guard = guard
        self._budget = budget
        self._ends = ends
        self._after = after
        self._scan: Iterator[Batch] | None = None

    def pages(self) -> Iterator[Page]:
        """Yield pages until the split's end.

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
                batch = self._throttle.source.call(self._pull, sleep=self._ends.sleep)
                if batch is None:
                    return
                self._after = self._checked(batch)
                self._budget.hold(batch.nbytes)
                self._throttle.rate.acquire(len(batch) + len(batch.vanished), sleep=self._ends.sleep)
                number += 1
                yield Page(number=number, token=token, batch=batch, last=self._after)
        finally:
            self._end_scan()

    def _pull(self) -> Batch | None:
        """The next batch, or None at the end. After a failure the scan begins anew after the last id read."""
        if self._scan is None:
            self._scan = iter(self._source.scan(self._split, self._after, self._batch_records))
        try:
            return next(self._scan, None)
        except DatabaseError:
            self._end_scan()
            raise

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


def read_split(
    source: Source, split: Split, *, throttle: Throttle, after: str | None = None, batch_records: int = 1000
) -> Iterator[Batch]:
    """Yield a split's batches in the caller's thread, retried and checked like those of a transfer.

    Raises:
        BrokenScan: ids came twice, out of order or from outside of the split.
    """
    budget = Budget(batches=1, bytes=1)
    reader = PageReader(
        source,
        split,
        after=after,
        batch_records=batch_records,
        throttle=throttle,
        guard=NoGuard(),
        budget=budget,
        ends=Interrupt(),
    )
    for page in reader.pages():
        budget.release(page.batch.nbytes)
        yield page.batch
