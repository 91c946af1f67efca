"""Records in motion: an application writes while both sides are read, so a record may rightly differ for a moment.

Whatever differs and is named by the journal is looked at again, both sides anew. What differs still, and is still on
its way, is counted as in motion: no failure, and no proof either. Catch-up settles it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, id_text
from vectormigrate_dagster.model.compare import Comparison, compare
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.listing import Original, original_of
from vectormigrate_dagster.validation.pairs import Pair

_AT_ONCE = 500


class Motion(Protocol):
    """Knows which records of the source an application has changed lately."""

    def position(self) -> int:
        """A place in time, before a read."""

    def moving(self, originals: Collection[Original], since: int) -> set[Original]:
        """Those that were changed after a position, or are not carried over yet."""

    def changed(self, since: int) -> int:
        """How many were changed after a position, or are not carried over yet: by so much counts may differ."""


@dataclass(frozen=True)
class _Suspect:
    """A record that differs and may be in motion; where it is, or is not, in the target."""

    original: Original
    scope: str | None
    kind: IdKind
    id: Id


class Suspects:
    """Takes records that may be in motion out of what is compared, and looks at them again at the end.

    Args:
        context: both sides; its `motion` is there.
        motion: of the context.
    """

    def __init__(self, context: Context, motion: Motion) -> None:
        self._context = context
        self._motion = motion
        self._found: list[_Suspect] = []

    def without(self, pair: Pair, compared: Comparison) -> tuple[Pair, Comparison]:
        """What is left of a pair, and how that compares, once records that may be in motion are put aside."""
        texts = {*compared.missing, *compared.extra, *(found.id for found in compared.differences)}
        named = list(self._suspects(pair, texts))
        moving = self._motion.moving({one.original for one in named}, self._context.since)
        aside = [one for one in named if one.original in moving]
        if not aside:
            return pair, compared
        self._found += aside
        gone = {id_text(one.id) for one in aside}
        kept = Pair(_drop(pair.promised, gone), _drop(pair.found, gone))
        return kept, compare(kept.promised, kept.found, tolerance=self._context.tolerance)

    def settle(self) -> tuple[list[Pair], int]:
        """Look again: pairs of those that are not in motion any more, and how many still are.

        Not within `as_of_now`: what was written since counts.
        """
        settled, still = [], 0
        for start in range(0, len(self._found), _AT_ONCE):
            block = self._found[start : start + _AT_ONCE]
            since = self._motion.position()
            for pair in _read(self._context.anew(), block):  # not before `since`: then whoever is judged later is named
                compared = compare(pair.promised, pair.found, tolerance=self._context.tolerance)
                left = pair
                if not compared.equal:
                    texts = {*compared.missing, *compared.extra, *(found.id for found in compared.differences)}
                    named = list(self._suspects(pair, texts))
                    moving = self._motion.moving({one.original for one in named}, since)
                    gone = {id_text(one.id) for one in named if one.original in moving}
                    still += len(gone)
                    left = Pair(_drop(pair.promised, gone), _drop(pair.found, gone))
                if len(left.promised) or len(left.found):
                    settled.append(left)
        self._found = []
        return settled, still

    def _suspects(self, pair: Pair, texts: Collection[str]) -> Iterator[_Suspect]:
        """The records of a pair with these ids, as far as they say where they come from."""
        seen = set()
        for batch in (pair.promised, pair.found):
            for row, value in enumerate(batch.ids.to_pylist()):
                text = id_text(value)
                if text in texts and text not in seen:
                    seen.add(text)
                    original = original_of(self._context.mapper, batch, row)
                    if original is not None:
                        yield _Suspect(original, batch.scope, batch.ids.kind, value)


def slack(context: Context) -> int:
    """By how much counts of both sides may rightly differ; 0 once all is quiet and carried over."""
    return 0 if context.motion is None else context.motion.changed(min(context.began, context.since))


def slack_text(used: int, allowed: int) -> str:
    """What a statement says of it; empty if nothing differs."""
    return f"; {used:,} of that may be in motion: {allowed:,} records were changed meanwhile" if used else ""


def _read(context: Context, suspects: Sequence[_Suspect]) -> Iterator[Pair]:
    """Both sides of some records as they are now."""
    promised: dict[tuple[str | None, IdKind], list[Batch]] = defaultdict(list)
    wanted: dict[tuple[str | None, IdKind], list[Id]] = defaultdict(list)
    for (scope, kind), ids in _grouped((one.original.scope, one.original.kind, one.original.id) for one in suspects):
        where = scope if scope in context.scopes or len(context.scopes) > 1 else context.scopes[0]
        found = context.throttle.source.call(partial(context.source.fetch, IdColumn.of(kind, ids), where)).batch
        for part in context.promised(found):
            promised[part.scope, part.ids.kind].append(part)
            wanted[part.scope, part.ids.kind] += part.ids.to_pylist()
    for (scope, kind), ids in _grouped((one.scope, one.kind, one.id) for one in suspects):
        wanted[scope, kind] += ids
    for (scope, kind), ids in wanted.items():
        column = IdColumn.of(kind, dict.fromkeys(ids))
        there = context.throttle.target.call(partial(context.target.fetch, column, scope)).batch
        parts = promised[scope, kind] or [there.slice(0, 0)]
        beyond = {id_text(value) for value in there.ids.to_pylist()}
        for number, part in enumerate(parts):
            texts = {id_text(value) for value in part.ids.to_pylist()}
            beyond -= texts
            last = number == len(parts) - 1
            yield Pair(part, _only(there, texts | beyond if last else texts))


def _grouped(
    rows: Iterator[tuple[str | None, IdKind, Id]],
) -> Iterator[tuple[tuple[str | None, IdKind], list[Id]]]:
    groups: dict[tuple[str | None, IdKind], dict[Id, None]] = defaultdict(dict)
    for scope, kind, value in rows:
        groups[scope, kind][value] = None
    yield from ((key, list(ids)) for key, ids in groups.items())


def _drop(batch: Batch, texts: Collection[str]) -> Batch:
    return batch.take(np.flatnonzero([id_text(value) not in texts for value in batch.ids.to_pylist()]))


def _only(batch: Batch, texts: Collection[str]) -> Batch:
    return batch.take(np.flatnonzero([id_text(value) in texts for value in batch.ids.to_pylist()]))
