"""What every tier needs: both sides, the mapping, and what is known to differ."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.model import Batch, IdColumn, Split, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle

if TYPE_CHECKING:
    from vectormigrate_dagster.validation.motion import Motion

Ours = Callable[[IdColumn, str | None], Mask]


@dataclass(frozen=True, kw_only=True)
class Exceptions:
    """What a complete and correct migration still leaves different.

    Args:
        refused: how many records of the source the mapping or the target refused.
        vanished: how many the source listed and could no longer give.
        pre_existing: how many records of somebody else stood in the target and are under no id of ours.
        left_alone: of how many records of somebody else nobody knows whether the load has left them alone as well, as
            catching up has: so many less may be there than `pre_existing` says.
        refused_ids: scope and id in the source, as text, of the records that the target refused. Those that the
            mapping refuses it refuses again.
        refused_now: reads `refused_ids` anew, for another look at records that an application has written meanwhile;
            None where nobody writes.
        ours: which records of the target this migration wrote, such as `OwnershipLog.wrote`; None is all of them.
            Others (left alone with `on_conflict: skip`) must be there, but are not compared; and only others can have
            stood there before.
    """

    refused: int = 0
    vanished: int = 0
    pre_existing: int = 0
    left_alone: int = 0
    refused_ids: frozenset[tuple[str | None, str]] = frozenset()
    refused_now: Callable[[], frozenset[tuple[str | None, str]]] | None = field(default=None, compare=False)
    ours: Ours | None = None


NO_EXCEPTIONS = Exceptions()
"""Source and target are to be the same."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The two sides of a validation.

    Args:
        splits: what of the source was moved; together they are the whole migration, or one partition.
        mapper: what the plan promised: a record of the target for each record of the source.
        tolerance: what the plan demands of vectors.
        motion: knows what an application changes meanwhile; None if nobody writes.
        began: a position of `motion` before anything was read that others have compared and this concludes from.
    """

    source: Source
    target: Database
    mapper: Mapper
    splits: Sequence[Split]
    tolerance: Tolerance = EXACT
    exceptions: Exceptions = NO_EXCEPTIONS
    throttle: Throttle = field(default_factory=Throttle)
    motion: Motion | None = None
    began: int = sys.maxsize
    since: int = field(init=False, default=0)
    """A position of `motion` before anything was read by this."""

    def __post_init__(self) -> None:
        """Note the position."""
        if self.motion is not None:
            object.__setattr__(self, "since", self.motion.position())

    @property
    def scopes(self) -> list[str | None]:
        """The scopes of the source that were moved, in the order of the splits."""
        return list(dict.fromkeys(split.scope for split in self.splits))

    @cached_property
    def source_records(self) -> int:
        """Records in the scopes of the source that were moved, counted once."""
        return sum(self.throttle.source.call(lambda scope=scope: self.source.count(scope)) for scope in self.scopes)  # type: ignore[misc]  # mypy does not infer a lambda's default

    @cached_property
    def repeated_records(self) -> int:
        """How many of them no reader sees, because another one has the same id; it may cost reading all ids."""
        return sum(self.throttle.source.call(lambda scope=scope: self.source.repeated(scope)) for scope in self.scopes)  # type: ignore[misc]  # mypy does not infer a lambda's default

    @cached_property
    def target_records(self) -> int:
        """Records in the target, counted once."""
        return self.throttle.target.call(self.target.count)

    @cached_property
    def _target_scopes(self) -> frozenset[str]:
        return frozenset(self.throttle.target.call(self.target.scopes))

    @cached_property
    def _refused_ids(self) -> dict[str | None, set[str]]:
        found: dict[str | None, set[str]] = defaultdict(set)
        for scope, text in self.exceptions.refused_ids:
            found[scope].add(text)
        return dict(found)

    def target_part(self, split: Split) -> Split | None:
        """The part of the target that can be read beside a split; None if ids have to be fetched one by one."""
        part = self.mapper.target_split(split)
        there = part is None or part.scope is None or part.scope in self._target_scopes
        return part if there else None

    @property
    def both_empty(self) -> bool:
        """Whether neither side has a record."""
        return self.source_records == 0 and self.target_records == 0

    def anew(self) -> Context:
        """The same with what is refused by now; knows of no motion."""
        known = self.exceptions
        if known.refused_now is None:
            return self
        return replace(self, exceptions=replace(known, refused_ids=known.refused_now()), motion=None)

    def read(self) -> Iterator[Batch]:
        """Yield all batches of the splits."""
        for split in self.splits:
            yield from read_split(self.source, split, throttle=self.throttle, page_records=PAGE_RECORDS)

    def promised(self, batch: Batch) -> Iterator[Batch]:
        """Yield what the target must hold for a batch of the source."""
        refused = self._refused_ids.get(batch.scope)
        if refused:
            texts = map(id_text, batch.ids.to_pylist())
            batch = batch.take([row for row, text in enumerate(texts) if text not in refused])
        yield from (part for part in self.mapper.map(batch).batches if len(part))

    def wrote(self, batch: Batch) -> Mask:
        """Which records of the target are known to be this migration's: bool (n,); none where all of it is."""
        ours = self.exceptions.ours
        return np.zeros(len(batch), dtype=np.bool_) if ours is None else ours(batch.ids, batch.scope)

    def written(self, part: Batch) -> Batch:
        """The records of a promised batch that this migration wrote."""
        ours = self.exceptions.ours
        return part if ours is None else part.take(np.flatnonzero(ours(part.ids, part.scope)))
