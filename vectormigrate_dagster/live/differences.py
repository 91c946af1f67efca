"""What comparing both sides of a live migration has found to differ, as keys of the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vectormigrate_dagster.errors import ValidationFailed
from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.model.counting import agreeing, counted
from vectormigrate_dagster.validation.mismatches import Mismatch

_SHOWN = 5
_KEPT = 100


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What came of looking at everything, or again at what was doubtful.

    Args:
        different: keys that differ although nothing is known to be under way for them; the first of many.
        count: how many there are; all are touched.
        doubtful: keys that the next look has to be at.
    """

    different: tuple[Key, ...] = ()
    count: int = 0
    doubtful: int = 0

    def __str__(self) -> str:
        shown = ", ".join(f"'{key.text}'" for key in self.different[:_SHOWN])
        more = ", ..." if self.count > _SHOWN else ""
        differ = f"{counted(self.count, 'id')} {agreeing(self.count, 'differs')}"
        return f"{differ} that nobody was about to carry over: {shown}{more}"


class Different:
    """Counts keys that differ, and keeps the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Key] = []

    def add(self, keys: Sequence[Key]) -> None:
        """Take keys."""
        self.count += len(keys)
        self._first += keys[: _KEPT - len(self._first)]

    def looked(self, *, doubtful: int) -> Looked:
        """What came of it."""
        return Looked(different=tuple(self._first), count=self.count, doubtful=doubtful)


class Findings:
    """Takes findings as keys of the journal; those of records that name no origin are kept apart."""

    def __init__(self, canonical: Callable[[Key], Key]) -> None:
        self._canonical = canonical
        self._keys: dict[Key, None] = {}
        self._strange: list[str] = []

    def __call__(self, found: Iterable[Mismatch]) -> None:
        """Take findings."""
        for one in found:
            if one.source_id is None or one.source_id_kind is None:
                self._strange.append(one.id)
                continue
            self._keys[self._canonical(Key(one.source_scope, IdKind(one.source_id_kind), one.source_id))] = None

    @property
    def keys(self) -> list[Key]:
        """The keys that differ."""
        return list(self._keys)

    def require_mendable(self) -> None:
        """Refuse to go on over records that are no copies of anything.

        Raises:
            ValidationFailed: there are some.
        """
        if self._strange:
            shown = ", ".join(f"'{text}'" for text in self._strange[:_SHOWN])
            held, name = counted(len(self._strange), "record"), agreeing(len(self._strange), "names")
            raise ValidationFailed(
                f"the target holds {held} that nobody promised and that {name} no record of the source as the origin, "
                f"such as {shown}; delete what nobody needs, or write it to the source"
            )
