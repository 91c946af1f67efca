"""What sampled vectors of the target look like beside those that were promised: for people, proving nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model import Batch, Dense, Packed, is_valid
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.figures import Histogram, Projection
from vectormigrate_dagster.validation.scores import components

MOST_RECORDS = 1000
"""Points that a browser draws at once, and a plot still shows apart."""

_DIGITS = 5
_REACH = 1.1
"""How far a plot reaches, where 1 is the promised vector that is farthest out."""

_CLASSES = ("bit-equal", "< 1e-12", "< 1e-9", "< 1e-6", "< 1e-4", "< 1e-2", "< 1", "opposite", "missing")
_BOUNDS = (1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 1.0)

Rows = npt.NDArray[np.float64]


def picture(context: Context, sample: Iterable[Batch]) -> tuple[tuple[Histogram, ...], Projection | None]:
    """Read up to 1,000 sampled records back, and draw their dense vectors.

    Returns:
        Per vector how far those of the target are turned away from the promised ones (1 - cosine); and the first vector
        of both on the plane of their two main directions.
    """
    gathered: dict[str, list[tuple[Rows, Rows]]] = {}
    missing: dict[str, int] = {}
    for promised, found in _read_back(context, sample):
        for name, column in promised.vectors.items():
            other = found.vectors.get(name)
            if not isinstance(column, Dense | Packed) or not isinstance(other, Dense | Packed | None):
                continue
            place = {value: row for row, value in enumerate(found.ids.to_pylist())}
            rows = [(row, place.get(promised.ids[int(row)])) for row in np.flatnonzero(is_valid(column))]
            there = [] if other is None else [(a, b) for a, b in rows if b is not None and is_valid(other)[b]]
            missing[name] = missing.get(name, 0) + len(rows) - len(there)
            if other is not None and there:
                mine = components(column.take([int(a) for a, _ in there]))
                gathered.setdefault(name, []).append((mine, components(other.take([b for _, b in there]))))
    both = {name: (_joined(a for a, _ in parts), _joined(b for _, b in parts)) for name, parts in gathered.items()}
    histograms = tuple(_histogram(name, *both[name], missing=missing[name]) for name in both)
    first = next(iter(both), None)
    return histograms, None if first is None else _projection(first, *both[first])


def _read_back(context: Context, sample: Iterable[Batch]) -> Iterator[tuple[Batch, Batch]]:
    room = MOST_RECORDS
    for part in sample:
        for start in range(0, len(part), size := min(context.target.capabilities.max_page_records, MOST_RECORDS)):
            piece = context.written(part.take(range(start, min(len(part), start + size, start + room))))
            if len(piece):
                room -= len(piece)
                fetch = partial(context.target.fetch, piece.ids, piece.scope)
                yield piece, context.throttle.target.call(fetch).batch
            if room <= 0:
                return


def _histogram(name: str, promised: Rows, found: Rows, *, missing: int) -> Histogram:
    equal = ((promised == found) | (np.isnan(promised) & np.isnan(found))).all(axis=1)
    promised, found = promised[~equal], found[~equal]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite counts as turned as far as can be
        lengths = np.linalg.norm(promised, axis=1) * np.linalg.norm(found, axis=1)
        cosines = np.einsum("ij,ij->i", promised, found) / np.where(lengths > 0, lengths, 1)
        turned = np.searchsorted(_BOUNDS, np.maximum(1 - cosines, 0), side="right")
    counts = np.bincount(turned, minlength=len(_BOUNDS) + 1)
    return Histogram(what=name, labels=_CLASSES, counts=(int(equal.sum()), *map(int, counts), missing))


def _projection(name: str, promised: Rows, found: Rows) -> Projection | None:
    """Principal components of the promised vectors, by singular values; None where all vectors are the same."""
    finite = np.isfinite(promised).all(axis=1) & np.isfinite(found).all(axis=1)
    promised, found = promised[finite], found[finite]
    if len(promised) < 3 or promised.shape[1] < 2:
        return None
    centre = promised.mean(axis=0)
    _, strengths, directions = np.linalg.svd(promised - centre, full_matrices=False)
    whole = float((strengths**2).sum())
    if whole == 0:
        return None
    plane = directions[:2].T
    points = np.concatenate([(promised - centre) @ plane, (found - centre) @ plane], axis=1)
    # A wrong vector may lie far away; it stands at the edge, so that the others are still told apart.
    points = np.clip(points / (_REACH * np.abs(points[:, :2]).max() or 1.0), -1, 1)
    return Projection(
        vector=name,
        points=tuple((a, b, c, d) for a, b, c, d in points.round(_DIGITS).tolist()),
        explained=float((strengths[:2] ** 2).sum() / whole),
    )


def _joined(parts: Iterable[Rows]) -> Rows:
    return np.concatenate(list(parts))
