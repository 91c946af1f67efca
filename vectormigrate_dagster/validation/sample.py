"""Draw records at random over the whole id space, the same ones for the same seed."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.model import Batch, Id, IdKind, Split, id_text
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.validation.context import Context

READ_ALL_BELOW = 50_000
"""Collections up to this size are read whole, so that every record is equally likely."""

_RUN = 10
_READ_PER_KEPT = 20
"""Records of a split that are read for each one that is kept, at most; beyond that, runs are read instead."""

_HIGHEST = {IdKind.U64: 2**64 - 1, IdKind.I64: 2**63 - 1, IdKind.UUID: 2**128 - 1}


@dataclass(frozen=True)
class Sample:
    """Promised records that were drawn.

    Args:
        parts: the records, in the order in which they were met.
        complete: these are all there are.
        runs: runs of neighbours that they were read in; 0 if each record was drawn by itself.
        random_runs: runs of a place that was random and led to no run before it; only these bound anything.
    """

    parts: tuple[Batch, ...]
    complete: bool
    runs: int = 0
    random_runs: int = 0


@dataclass(frozen=True)
class _Run:
    """Neighbours, and whether chance alone led to them."""

    batch: Batch
    at_random: bool


class Reservoir:
    """Keeps `size` of all records that pass by, each with the same probability.

    Every record gets a random number; those with the smallest are kept.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._kept: list[tuple[Batch, npt.NDArray[np.float64]]] = []
        self._limit = 1.0

    def add(self, batch: Batch) -> None:
        """Let a batch pass by."""
        keys = self._random.random(len(batch))
        rows = np.flatnonzero(keys < self._limit)
        if len(rows) == 0:
            return
        self._kept.append((batch.take(rows), keys[rows]))
        if sum(len(part) for part, _ in self._kept) > 2 * self._size:
            self._prune()

    def sample(self) -> Sample:
        """The records that were kept; complete if those are all that passed by."""
        self._prune()
        return Sample(tuple(part for part, _ in self._kept), self._limit == 1.0)

    def _prune(self) -> None:
        keys = np.concatenate([keys for _, keys in self._kept]) if self._kept else np.zeros(0)
        if len(keys) <= self._size:
            return
        self._limit = float(np.partition(keys, self._size)[self._size])
        kept = [(part, keys, np.flatnonzero(keys < self._limit)) for part, keys in self._kept]
        self._kept = [(part.take(rows), keys[rows]) for part, keys, rows in kept if len(rows)]


def draw(context: Context, size: int, *, seed: int) -> Sample:
    """Draw about `size` promised records (fewer if there are fewer).

    Small collections are read whole and sampled evenly. Of larger ones the id space is cut into pieces of equal
    record counts, and short runs are read from a random place in each, which reads `size` records and no more.
    """
    if context.source_records <= READ_ALL_BELOW:
        return _kept(context, context.read(), size, seed=seed)
    return _promised_runs(context, _runs(context, size, seed=seed), size)


def draw_split(context: Context, split: Split, size: int, *, seed: int, last: str | None = None) -> Sample:
    """Draw about `size` promised records of one split; empty only if nothing is promised of the whole split.

    Splits that are small, of unknown size, or of text ids are read whole; of those of more than 20 times `size`, runs
    are read from random places between the first and the last id.

    Args:
        context: both sides.
        split: what to draw from.
        size: how many records.
        seed: the same one draws the same records.
        last: text of the split's last id, where it is known; None looks for it.
    """
    if split.records > min(READ_ALL_BELOW, _READ_PER_KEPT * size) and split.kind is not IdKind.TEXT:
        sample = _promised_runs(context, _places(context, split, math.ceil(size / _RUN), seed=seed, last=last), size)
        if sample.parts:
            return sample
    return _kept(context, read_split(context.source, split, throttle=context.throttle), size, seed=seed)


def _kept(context: Context, batches: Iterator[Batch], size: int, *, seed: int) -> Sample:
    """What a reservoir keeps of everything that is promised of `batches`."""
    reservoir = Reservoir(size, seed=seed)
    for batch in batches:
        for part in context.promised(batch):
            reservoir.add(part)
    return reservoir.sample()


def _promised_runs(context: Context, runs: Iterator[_Run], size: int) -> Sample:
    """What is promised of whole runs, as many as it takes to have `size` records."""
    parts: list[Batch] = []
    number = at_random = 0
    for run in runs:
        promised = list(context.promised(run.batch))
        parts += promised
        number += bool(promised)
        at_random += bool(promised) and run.at_random
        if sum(map(len, parts)) >= size:
            break
    return Sample(tuple(parts), complete=False, runs=number, random_runs=at_random)


def _places(context: Context, split: Split, count: int, *, seed: int, last: str | None) -> Iterator[_Run]:
    """Yield short runs from random places of a split of numeric or UUID ids, no record twice.

    Where a place leads to records that were read already, the run goes on after them and is not random.
    """
    beginning = _first(context, split, None)
    if beginning is None:
        return
    low = _number(beginning.ids[0])
    high = _last_number(context, split, low) if last is None else _number(split.kind.decode(last))
    chance = random.Random(seed)  # noqa: S311  # a sample, not a secret
    reached = low - 1
    places = sorted(chance.randint(low, max(low, high)) for _ in range(count))
    for place, run in zip(places, ahead(partial(_from, context, split), places), strict=True):
        batch = run if place > reached else _from(context, split, reached + 1)
        if batch is not None:
            at_random = place > reached
            reached = _number(batch.ids[len(batch) - 1])
            yield _Run(batch, at_random)


def _from(context: Context, split: Split, number: int) -> Batch | None:
    """A short run of the split that begins at the id `number` or after it."""
    return _first(context, split, _before(split.kind, number))


def _last_number(context: Context, split: Split, low: int) -> int:
    """The last id of a split that holds the id `low`, found by halving: at most 128 short reads."""
    high = _number(split.upper) if split.upper is not None else _HIGHEST[split.kind]
    if _from(context, split, high) is not None:
        return high  # as in most plans, which cut after an id that is there
    while low < high:
        middle = (low + high + 1) // 2
        batch = _from(context, split, middle)
        if batch is None:
            high = middle - 1
        else:
            low = _number(batch.ids[len(batch) - 1])
    return low


def _before(kind: IdKind, number: int) -> str | None:
    """The id before `number` in text form; None before the lowest of its kind."""
    if number <= (-(2**63) if kind is IdKind.I64 else 0):
        return None
    return id_text(uuid.UUID(int=number - 1) if kind is IdKind.UUID else number - 1)


def _runs(context: Context, size: int, *, seed: int) -> Iterator[_Run]:
    """Yield a short run of records from each of about size/10 equal pieces of the id space, in random order.

    Text ids have no random place in between, and neither has a piece that is open on one side: those begin at the
    beginning.
    """
    chance = random.Random(seed)  # noqa: S311  # a sample, not a secret
    scopes = [scope for scope in context.scopes if scope is not None]
    records = math.ceil(context.source_records * _RUN / size)
    pieces = list(context.throttle.source.call(lambda: context.source.plan_splits(records, scopes or None)))
    chance.shuffle(pieces)
    starts = [_between(piece, chance) for piece in pieces]
    places = list(zip(pieces, starts, strict=True))
    enough = math.ceil(size / _RUN)  # as long as no run is short
    read = partial(_piece_run, context)
    runs = chain(ahead(read, places[:enough]), map(read, places[enough:]))
    yield from (run for run in runs if run is not None)


def _piece_run(context: Context, place: tuple[Split, str | None]) -> _Run | None:
    """A run from a place in a piece, or from the piece's beginning if nothing comes after; None if it is empty."""
    piece, start = place
    batch = _first(context, piece, start)
    if batch is not None:
        return _Run(batch, start is not None)
    batch = None if start is None else _first(context, piece, None)
    return None if batch is None else _Run(batch, at_random=False)


def _first(context: Context, piece: Split, after: str | None) -> Batch | None:
    pages = read_split(context.source, piece, throttle=context.throttle, after=after, batch_records=_RUN)
    return next((page for page in pages if len(page)), None)  # a page is empty if all of it has vanished


def _between(split: Split, chance: random.Random) -> str | None:
    """A random place in a split that is closed on both sides, as an id in text form; None is its beginning."""
    low, high = split.lower, split.upper
    if low is None or high is None or split.kind is IdKind.TEXT:
        return None
    return _before(split.kind, chance.randint(_number(low) + 1, _number(high)))


def _number(value: Id) -> int:
    return value.int if isinstance(value, uuid.UUID) else int(value)
