"""A split: the unit of parallel work, a closed piece of one scope's id space."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.model.id_kinds import Id, IdKind, id_text


class Split(BaseModel):
    """The ids of one kind in one scope that are > `after` and <= `last`.

    Bounds are in text form (`id_text`); None is the end of the id space. All splits of a plan
    tile the id space of every id kind that the source can hold, so a record belongs to exactly one.

    Args:
        scope: namespace, tenant, partition or shard key; None where the collection is not divided.
        kind: the kind of id; its order is the order of the scan.
        after: exclusive lower bound.
        last: inclusive upper bound.
        records: how many records it is believed to hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: str | None = None
    kind: IdKind
    after: str | None = None
    last: str | None = None
    records: int = 0

    @property
    def lower(self) -> Id | None:
        """`after` as an id."""
        return None if self.after is None else self.kind.decode(self.after)

    @property
    def upper(self) -> Id | None:
        """`last` as an id."""
        return None if self.last is None else self.kind.decode(self.last)

    def contains(self, value: Id) -> bool:
        """Whether an id of this split's kind lies between its bounds."""
        lower, upper = self.lower, self.upper
        return (lower is None or value > lower) and (upper is None or value <= upper)  # type: ignore[operator]

    def __str__(self) -> str:
        scope = f"{self.scope}: " if self.scope is not None else ""
        return f"{scope}{self.kind.value} ids after {self.after or 'the start'} up to {self.last or 'the end'}"


def tile(kind: IdKind, bounds: list[Id], *, scope: str | None = None, records: list[int] | None = None) -> list[Split]:
    """Splits that tile the whole id space of `kind`, cut after each id of `bounds` (ascending).

    `records`, one more than `bounds`, are the expected sizes.
    """
    texts: list[str | None] = [None, *(id_text(b) for b in bounds), None]
    sizes = records or [0] * (len(bounds) + 1)
    return [
        Split(scope=scope, kind=kind, after=low, last=high, records=size)
        for low, high, size in zip(texts[:-1], texts[1:], sizes, strict=True)
    ]
