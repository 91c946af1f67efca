"""Queries of which nothing can be said: records among their answers, or of the true ones, were changed meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial

from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.listing import Original, original_of
from vectormigrate_dagster.validation.motion import Motion
from vectormigrate_dagster.validation.search.asked import Asked
from vectormigrate_dagster.validation.search.judging import Pair

_AT_ONCE = 500


class Unsettled:
    """Leaves queries out that an application may have spoiled, and no others.

    The databases answer at one time and the truth is read at another. A record that is changed in between can only
    spoil queries among whose answers it is, or should be.

    Args:
        context: both sides.
        motion: of the context.
        kinds: of ids in the target.
    """

    def __init__(self, context: Context, motion: Motion, kinds: Sequence[IdKind]) -> None:
        self._context = context
        self._motion = motion
        self._kinds = kinds
        self._since = motion.position()

    def leave_out(self, pairs: Iterable[Pair]) -> None:
        """Take queries out of what is judged, once everything was asked and read; nothing if nothing has moved."""
        if not self._motion.changed(self._since):
            return
        for pair in pairs:
            _leave_out(pair.target, self._moving_in_target(pair.target))
            if pair.source is not None:
                _leave_out(pair.source, self._moving_in_source(pair.source))

    def _moving_in_target(self, asked: Asked) -> set[str]:
        """Ids of records that are in motion; also of those that the target lacks, which other tiers judge."""
        texts, scope = _named(asked), asked.questions.scope
        moving = set(texts)
        for kind in self._kinds:
            for some in _blocks(ids_of_kind(kind, texts)):
                fetch = partial(self._context.target.fetch, some, scope)
                found = self._context.throttle.target.call(fetch).batch
                moving -= self._settled(found)
        return moving

    def _settled(self, found: Batch) -> set[str]:
        """Which records of the target nobody has changed."""
        texts = found.ids.texts()
        origins = [original_of(self._context.mapper, found, row) for row in range(len(found))]
        moving = self._motion.moving({one for one in origins if one is not None}, self._since)
        return {text for text, origin in zip(texts, origins, strict=True) if origin not in moving}

    def _moving_in_source(self, asked: Asked) -> set[str]:
        texts, scope = _named(asked), asked.questions.scope
        moving: set[str] = set()
        for kind in IdKind:
            ids = ids_of_kind(kind, texts)
            originals = dict(zip(ids.texts(), (Original(scope, kind, one) for one in ids.to_pylist()), strict=True))
            found = self._motion.moving(set(originals.values()), self._since)
            moving |= {text for text, original in originals.items() if original in found}
        return moving


def ids_of_kind(kind: IdKind, texts: Iterable[str]) -> IdColumn:
    """Those ids that are of `kind`; an answer that mixes kinds comes as text."""
    found: list[Id] = []
    for text in sorted(texts):
        try:
            found.append(kind.decode(text))
        except ValueError:
            continue  # an id of another kind
    return IdColumn.of(kind, found)


def _named(asked: Asked) -> set[str]:
    """The ids of all answers, and of the records that should be."""
    return {text for truth in asked.truths for texts in truth.named() for text in texts}


def _leave_out(asked: Asked, moving: Collection[str]) -> None:
    for truth in asked.truths:
        truth.leave_out(moving)


def _blocks(ids: IdColumn) -> Iterator[IdColumn]:
    for start in range(0, len(ids), _AT_ONCE):
        yield ids.slice(start, min(start + _AT_ONCE, len(ids)))
