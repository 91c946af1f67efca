"""Find records of the target that nobody promised, where reading both sides side by side cannot have shown them.

A target is read by its own splits; each record says which record of the source it comes from, and that one is asked
for. It is right if what it promises has this very id, and extra otherwise. So memory depends on no number of records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow.compute as pc

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, Split, id_text
from vectormigrate_dagster.model.digests import DigestSet, digests
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.listing import Listing, Sink, finding_of, original_of
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.pairs import one_ahead, read_target
from vectormigrate_dagster.validation.report import SHOWN

_SPLIT_RECORDS = 1_000_000

Key = tuple[str | None, IdKind, Id]
"""Scope, kind and id of a record."""


def look_beyond(context: Context, *, sink: Sink, different: DigestSet) -> Outcome:
    """Look for extra records in all of the target that was not read beside the source.

    Args:
        context: both sides, with all splits of the plan.
        sink: takes everything that is certainly wrong.
        different: ids that were promised, and under which something else was found. These records may say anything of
            where they come from.
    """
    merged = {(part.scope, part.kind) for split in context.splits if (part := context.target_part(split)) is not None}
    found = []
    with context.source.as_of_now(), context.target.as_of_now():
        for split in _target_splits(context):
            if (split.scope, split.kind) not in merged:
                for batch in one_ahead(read_target(context, split)):
                    found.append(_extra_of(context, batch, sink, different))
                    found = [Outcome.sum(found)]
    return Outcome.sum(found)


def _target_splits(context: Context) -> Sequence[Split]:
    target = Source(context.target)
    return context.throttle.target.call(lambda: target.plan_splits(_SPLIT_RECORDS))


def _extra_of(context: Context, batch: Batch, sink: Sink, different: DigestSet) -> Outcome:
    """The records of a batch that nobody promised, and those that come more than once."""
    first = np.flatnonzero(_is_first(batch.ids))
    if len(first) < len(batch):
        again = batch.take(np.setdiff1d(np.arange(len(batch)), first))
        twice = Listing(context.mapper, again.slice(0, 0), again).duplicates(map(id_text, again.ids.to_pylist()))
        sink(twice)
        repeated = Outcome(repeated=len(twice), findings=tuple(map(finding_of, twice[:SHOWN])))
        return Outcome.sum([repeated, _extra_of(context, batch.take(first), sink, different)])
    promised = _promised_ids(context, _originals(context, batch))
    ids = batch.ids.to_pylist()
    beyond = [row for row, value in enumerate(ids) if (batch.scope, batch.ids.kind, value) not in promised]
    rows = batch.take(beyond)
    rows = rows.take(np.flatnonzero(~different.contains(digests(rows.ids, rows.scope))))
    if len(rows) == 0:
        return Outcome()
    listing = Listing(context.mapper, rows.slice(0, 0), rows)
    mine = context.wrote(rows)
    texts = [id_text(value) for value in rows.ids.to_pylist()]
    moving = _moving(context, rows)
    extra = [texts[row] for row in np.flatnonzero(mine) if texts[row] not in moving]
    others = [texts[row] for row in np.flatnonzero(~mine) if texts[row] not in moving]
    sink(listing.unpromised(extra))
    if context.exceptions.pre_existing == 0:
        sink(listing.unpromised(others))
    return Outcome(
        extra=len(extra),
        others=len(others),
        in_motion=len(moving),
        surplus=tuple(map(finding_of, listing.unpromised(extra[:SHOWN]))),
        strangers=tuple(map(finding_of, listing.unpromised(others[:SHOWN]))),
    )


def _moving(context: Context, rows: Batch) -> set[str]:
    """Those of a batch of the target, by id, whose records of the source an application is changing."""
    if context.motion is None:
        return set()
    found = {row: original_of(context.mapper, rows, row) for row in range(len(rows))}
    known = {original for original in found.values() if original is not None}
    moving = context.motion.moving(known, context.since)
    ids = rows.ids.to_pylist()
    return {id_text(ids[row]) for row, original in found.items() if original in moving}


def _is_first(ids: IdColumn) -> Mask:
    """Which of some ids in ascending order do not stand before: bool (n,)."""
    first = np.ones(len(ids), dtype=np.bool_)
    first[1:] = np.asarray(pc.not_equal(ids.array[1:], ids.array[:-1]).to_numpy(zero_copy_only=False))
    return first


def _originals(context: Context, batch: Batch) -> Iterator[Batch]:
    """The records of the source that the records of a batch of the target come from, those that there are."""
    wanted: dict[tuple[str | None, IdKind], list[Id]] = {}
    known = frozenset(context.scopes)
    only = context.scopes[0] if len(known) == 1 else None
    for row in range(len(batch)):
        original = original_of(context.mapper, batch, row)
        if original is not None:
            # A source that is not divided has one name for its whole, which the plan's splits use.
            scope = original.scope if original.scope in known else only
            wanted.setdefault((scope, original.kind), []).append(original.id)
    size = context.source.capabilities.max_page_records
    for (scope, kind), values in wanted.items():
        if scope not in known or kind not in context.source.capabilities.id_kinds:
            continue
        for start in range(0, len(values), size):
            ids = IdColumn.of(kind, dict.fromkeys(values[start : start + size]))
            found = context.throttle.source.call(lambda ids=ids, scope=scope: context.source.fetch(ids, scope))  # type: ignore[misc]  # mypy does not infer a lambda's default
            context.throttle.rate.acquire(len(found.batch), sleep=context.throttle.interrupt.sleep)
            if len(found.batch):
                yield found.batch


def _promised_ids(context: Context, originals: Iterator[Batch]) -> set[Key]:
    """The ids under which records of the source must be in the target."""
    parts = (part for batch in originals for part in context.promised(batch))
    return {(part.scope, part.ids.kind, value) for part in parts for value in part.ids.to_pylist()}
