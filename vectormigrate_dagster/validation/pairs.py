"""Put what a split promises beside what the target holds, a page at a time, in memory that does not depend on either.

Where ids keep their order, both sides are read in it and merged, which shows extra records as well; elsewhere the
promised ids are fetched. Both sides are read at the same time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.errors import BrokenScan
from vectormigrate_dagster.model import Batch, Id, IdColumn, Split
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.context import Context

_BATCH_RECORDS = 4096
"""Records of a batch of a whole reading: the cost of a batch disappears, and its vectors are still few."""

Watch = Callable[[Batch], None]


@dataclass(frozen=True)
class Pair:
    """What a piece of the source promises, and what the target holds in its place."""

    promised: Batch
    found: Batch


def pairs(context: Context, split: Split, watch: Watch) -> Iterator[Pair]:
    """Yield everything that is promised of a split beside what is there.

    Args:
        context: both sides.
        split: what to compare.
        watch: is shown every batch of the source, in another thread.
    """
    part = context.target_part(split)
    return _fetched(context, split, watch) if part is None else _merged(context, split, part, watch)


def read_target(context: Context, part: Split) -> Generator[Batch]:
    """Yield the batches of a piece of the target; the rate limit, which is the source's, is not for it."""
    calm = Throttle(source=context.throttle.target, interrupt=context.throttle.interrupt)
    target = Source(context.target)
    # That an id comes twice is a finding, not the end: in a source, a record would be lost.
    found = read_split(
        target, part, throttle=calm, batch_records=_BATCH_RECORDS, page_records=PAGE_RECORDS, repeats=True
    )
    for batch in found:
        if len(batch):
            # What is listed and cannot be given is not there.
            yield replace(batch, vanished=()) if batch.vanished else batch


def read_source(context: Context, split: Split) -> Iterator[Batch]:
    """Yield the batches of a split of the source."""
    throttle = context.throttle
    yield from read_split(
        context.source, split, throttle=throttle, batch_records=_BATCH_RECORDS, page_records=PAGE_RECORDS
    )


def _promised(context: Context, split: Split, watch: Watch) -> Iterator[Batch]:
    for batch in read_source(context, split):
        watch(batch)
        for part in context.promised(batch):
            yield replace(part, vanished=()) if part.vanished else part


def _fetched(context: Context, split: Split, watch: Watch) -> Iterator[Pair]:
    size = context.target.capabilities.max_page_records

    def ask(piece: Batch) -> Pair:
        fetch = partial(context.target.fetch, piece.ids, piece.scope)
        return Pair(piece, context.throttle.target.call(fetch).batch)

    pieces = (piece for part in _promised(context, split, watch) for piece in pieces_of(part, size))
    yield from ahead(ask, pieces)


def pieces_of(part: Batch, size: int) -> Iterator[Batch]:
    """The batch in pieces of at most `size` records."""
    for start in range(0, len(part), size):
        yield part.slice(start, min(len(part), start + size)) if len(part) > size else part


def _merged(context: Context, split: Split, part: Split, watch: Watch) -> Iterator[Pair]:
    """Both sides in the order of their ids, each pair up to the last id that both have read."""
    nothing = Batch(IdColumn.of(part.kind, []), part.scope)
    with (
        closing(one_ahead(_in_order(context, split, part, watch))) as promised,
        closing(one_ahead(read_target(context, part))) as there,
    ):
        left, right = _Side(promised, nothing), _Side(there, nothing)
        while ends := [side.last for side in (left, right) if side.last is not None]:
            bound = min(ends)
            yield Pair(left.take(bound), right.take(bound))


def _in_order(context: Context, split: Split, part: Split, watch: Watch) -> Generator[Batch]:
    """What is promised of a split, after a look at whether it comes as a merge needs it.

    Raises:
        BrokenScan: it does not; a record would be compared with another.
    """
    before: Id | None = None
    for batch in _promised(context, split, watch):
        follows = before is None or batch.ids[0] > before  # type: ignore[operator]  # of one kind, see below
        ascends = follows and batch.ids.is_strictly_ascending()
        if (batch.scope, batch.ids.kind) != (part.scope, part.kind) or not ascends:
            raise BrokenScan(f"the ids that {split} becomes in the target are not the ascending ids of {part}")
        before = batch.ids[len(batch) - 1]
        yield batch


class _Side:
    """One side of a merge: the batch at hand, and those that follow."""

    def __init__(self, batches: Iterator[Batch], nothing: Batch) -> None:
        self._batches = batches
        self._nothing = nothing
        self._at_hand = next(batches, None)

    @property
    def last(self) -> Id | None:
        """The last id at hand; None if nothing is left."""
        batch = self._at_hand
        return None if batch is None else batch.ids[len(batch) - 1]

    def take(self, bound: Id | None) -> Batch:
        """What is at hand up to an id, or (None) all of it."""
        batch = self._at_hand
        if batch is None:
            return self._nothing
        rows = len(batch) if bound is None or bound == self.last else _up_to(batch.ids, bound)
        self._at_hand = next(self._batches, None) if rows == len(batch) else batch.slice(rows, len(batch))
        return batch.slice(0, rows)


def _up_to(ids: IdColumn, bound: Id) -> int:
    """How many ids of an ascending column are not greater than `bound`."""
    value = bound.bytes if isinstance(bound, uuid.UUID) else bound
    not_greater: Any = pc.less_equal(ids.array, pa.scalar(value, type=ids.kind.arrow_type))
    return int(not_greater.true_count)


def one_ahead(batches: Generator[Batch]) -> Generator[Batch]:
    """Yield batches while another thread reads the next one, under the caller's policy of repeating (`patience`)."""
    policy = copy_context()

    def read() -> Batch | None:
        return policy.run(next, batches, None)

    with closing(batches), ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-ahead") as pool:
        coming = pool.submit(read)
        while (batch := coming.result()) is not None:
            coming = pool.submit(read)
            yield batch
