"""Profile a source by reading some of its records, from all over its id space, or all of them."""

from __future__ import annotations

import random
import string
import time
import uuid
from collections.abc import Sequence
from functools import partial

import numpy as np

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile_models import FieldProfile, IdProfile, Profile, VectorProfile
from vectormigrate_dagster.mapping.profiler import Profiler
from vectormigrate_dagster.model import Batch, Id, IdKind, Split, id_text

__all__ = ["FieldProfile", "IdProfile", "Profile", "Profiler", "VectorProfile", "profile_source"]

_STARTS = 24
"""Splits whose beginning is read."""

_POINTS = 24
"""Random points that are read within them."""


def profile_source(
    source: Source, splits: Sequence[Split], *, full: bool, before: Before | None = None, sample: int = 10_000
) -> Profile:
    """Profile a source.

    A sample holds records from the start of many splits and from random points within them, never only
    the first page: ids are often ordered by age, and old records differ from new ones. A source of at
    most twice the sample is read completely, which is hardly more work and proves what is absent.

    Args:
        splits: tile what is going to be moved.
        full: read every record.
        before: how payloads were before an earlier migration; see `Profiler`.
        sample: about how many records to read otherwise.

    Raises:
        DatabaseError: the source could not be read.
    """
    profiler = Profiler(before)
    total = sum(split.records for split in splits)
    started = time.monotonic()
    complete = full or total <= 2 * sample
    if complete:
        page = min(5000, source.capabilities.max_page_records)
        for split in splits:
            for batch in source.scan(split, batch_records=page):
                profiler.add(batch)
    else:
        _sample(source, splits, profiler, sample)
    seconds = time.monotonic() - started
    return profiler.profile(complete=complete, total=None if complete else total, seconds=seconds)


def _sample(source: Source, splits: Sequence[Split], profiler: Profiler, sample: int) -> None:
    """Add a sample; records that two samples hold are counted once."""
    chosen = _spread(splits, _STARTS)
    points_per_split = max(1, _POINTS // len(chosen))
    page = max(1, min(sample // (len(chosen) * (1 + points_per_split)), source.capabilities.max_page_records))
    seen: set[tuple[str | None, IdKind, Id]] = set()
    for found in ahead(partial(_sample_split, source, points_per_split, page), enumerate(chosen)):
        for batch in found:
            _add_new(profiler, batch, seen)


def _sample_split(source: Source, points: int, page: int, numbered: tuple[int, Split]) -> list[Batch]:
    """The beginning of a split, and short pages from random points of it."""
    number, split = numbered
    chance = random.Random(number)  # noqa: S311 - a sample that is drawn again the same way, not a secret
    first = _read(source, split, None, page)
    if first is None:
        return []
    batches, known = [first], first.ids.to_pylist()
    for _ in range(points):
        after = _point(split, known, len(first), chance)
        found = _read(source, split, after, page) if after is not None else None
        if found is not None:
            batches.append(found)
            known.append(found.ids[len(found) - 1])
    return batches


def _spread(splits: Sequence[Split], most: int) -> list[Split]:
    """At most `most` splits that are spread evenly; the first and last of every scope and kind come first.

    So each kind of id that the source holds is met, however rare it is.
    """
    groups: dict[tuple[str | None, IdKind], list[Split]] = {}
    for split in splits:
        groups.setdefault((split.scope, split.kind), []).append(split)
    edges = list(dict.fromkeys(split for group in groups.values() for split in (group[0], group[-1])))
    inner = [split for split in splits if split not in set(edges)]
    room = max(0, most - len(edges))
    picked = {int(i) for i in np.linspace(0, len(inner) - 1, room)} if inner and room else set()
    return edges + [inner[i] for i in sorted(picked)]


def _read(source: Source, split: Split, after: str | None, records: int) -> Batch | None:
    """The first batch of a split after an id; None if there is none."""
    for batch in source.scan(split, after, batch_records=records):
        return batch
    return None


def _add_new(profiler: Profiler, batch: Batch, seen: set[tuple[str | None, IdKind, Id]]) -> None:
    keys = [(batch.scope, batch.ids.kind, value) for value in batch.ids.to_pylist()]
    rows = [i for i, key in enumerate(keys) if key not in seen]
    seen.update(keys)
    profiler.add(batch if len(rows) == len(keys) else batch.take(rows))


def _point(split: Split, known: list[Id], head: int, chance: random.Random) -> str | None:
    """An id, existing or not, at a random place of a split; None if the guess lies outside.

    Args:
        known: ids of the split, the first `head` of them from its beginning.
    """
    drawn = _random_text(known, chance) if split.kind is IdKind.TEXT else _random_number(split, known[:head], chance)
    return id_text(drawn) if drawn is not None and split.contains(drawn) else None


def _random_number(split: Split, head: list[Id], chance: random.Random) -> Id | None:
    """A number or UUID up to where the split should end if its ids were as dense as at its head."""
    low, last = _as_int(head[0]), _as_int(head[-1])
    if last <= low:
        return None
    end = low + (last - low) * max(1, split.records) // max(1, len(head) - 1)
    if split.upper is not None:
        end = min(end, _as_int(split.upper)) if split.kind is not IdKind.UUID else _as_int(split.upper)
    limit = {IdKind.U64: 2**64 - 1, IdKind.I64: 2**63 - 1}.get(split.kind, 2**128 - 1)
    drawn = chance.randint(low, max(low, min(end, limit)))
    return uuid.UUID(int=drawn) if split.kind is IdKind.UUID else drawn


def _as_int(value: Id) -> int:
    return value.int if isinstance(value, uuid.UUID) else int(value)


def _random_text(known: list[Id], chance: random.Random) -> str:
    """A known id that differs from some place on, each character staying of its class (digit, small, capital).

    The place is a digit if there is one: that is where ids that are counted or hashed differ.
    """
    model = str(chance.choice(known))
    places = [place for place, character in enumerate(model) if character in string.digits] or range(len(model))
    kept = chance.choice(places) if places else 0
    return model[:kept] + "".join(chance.choice(_class_of(character)) for character in model[kept:])


def _class_of(character: str) -> str:
    for characters in (string.digits, string.ascii_lowercase, string.ascii_uppercase):
        if character in characters:
            return characters
    return character
