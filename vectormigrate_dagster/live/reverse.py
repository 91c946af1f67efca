"""Make records of the source equal to the target's, after the sides were switched."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from vectormigrate_dagster.databases import Database, Refusal, Source
from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.mapping.reverse import ReverseMapper
from vectormigrate_dagster.model import Batch, Id, IdColumn, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.transfer.guard import NO_GUARD, WriteGuard
from vectormigrate_dagster.transfer.held import Records
from vectormigrate_dagster.transfer.mapper import Mapped
from vectormigrate_dagster.transfer.resync import Keys, Resync
from vectormigrate_dagster.transfer.throttle import Throttle

_NEVER_THERE = "the plan does not move it, so that the target lacks it says nothing; the source's record is left alone"
_NOBODY_DELETED = (
    "the target lacks it, and no application is known to have deleted it there, so the source's record is left alone; "
    "if it was deleted, say so with 'vectormigrate report-changes'"
)

LEFT_BEHIND = frozenset({_NEVER_THERE, _NOBODY_DELETED})
"""Reasons why a record of the source stays although the target lacks it."""


class ReverseResync(Resync):
    """A re-sync that reads the target and writes the source.

    A record that still stands in the source keeps what the target's record does not say (see `ReverseMapper`). Nobody
    else writes the source then, so all of it may be written.

    Args:
        target: is read.
        source: is written.
        mapper: puts records of the target back.
        throttle: `source` is of what is read, `target` of what is written.
        tolerance: what is demanded of vectors in the source.
        guard: is asked right before each request that writes.
        touched: keys that no application names; the target may have refused those that it lacks when they were loaded.
    """

    def __init__(
        self,
        target: Source,
        source: Database,
        mapper: ReverseMapper,
        *,
        throttle: Throttle,
        tolerance: Tolerance = EXACT,
        guard: WriteGuard = NO_GUARD,
        touched: Collection[Key] = (),
    ) -> None:
        super().__init__(
            target,
            source,
            mapper.forward,
            throttle=throttle,
            on_conflict="overwrite",
            ownership=None,
            tolerance=tolerance,
            guard=guard,
        )
        self._reverse = mapper
        self._touched = touched

    def _of_another_scope(self, keys: Keys, found: Records) -> set[str]:
        del keys, found
        return set()  # the source keeps its scopes apart

    def _is_lost(self, refused: str | None) -> bool:
        return refused is not None and refused != _NEVER_THERE

    def _mapped(self, found: Batch, keys: Keys, before: Batch | None) -> Mapped:
        ids = dict(zip(keys.ids.to_pylist(), keys.target_ids.to_pylist(), strict=True))
        theirs = IdColumn.of(keys.target_ids.kind, [ids.pop(value) for value in found.ids.to_pylist()])
        back = self._reverse.put(found, theirs, keys.target_scope, before)
        return replace(back, refused=(*back.refused, *self._kept(ids, keys, before)))

    def _kept(self, absent: dict[Id, Id], keys: Keys, before: Batch | None) -> Iterator[Refusal]:
        """Records of the source that are not deleted, although the target lacks them.

        Args:
            absent: id in the target, which holds none there, -> id in the source.
            keys: which were asked for.
            before: what stands in the source.
        """
        if before is None or not absent:
            return
        standing = set(before.ids.texts())
        refused = {refusal.id for refusal in self._reverse.forward.map(before).refused}
        for value, original in absent.items():
            text = id_text(original)
            if text in refused:
                yield Refusal(id_text(value), _NEVER_THERE)
            elif text in standing and Key(keys.target_scope, keys.target_ids.kind, text) in self._touched:
                yield Refusal(id_text(value), _NOBODY_DELETED)
