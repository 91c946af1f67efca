"""The loss report: one row for every thing of the source, and what becomes of it in the target."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.errors import PlanRefused


class Grade(StrEnum):
    """How well the target holds something.

    - exact: what comes back is what was there.
    - widened: everything is held, in another form (a wider type, another name, no index of that kind);
      nothing is lost and the way back is known.
    - lossy: something is altered or left behind; it happens only if the owner allows its code.
    - refused: the target cannot hold it; the migration file has to say what to do instead.
    """

    EXACT = "exact"
    WIDENED = "widened"
    LOSSY = "lossy"
    REFUSED = "refused"


class LossRow(BaseModel):
    """What one thing of the source becomes.

    Args:
        code: stable name of the change; what the owner writes under `mapping.allow`.
        subject: the thing: "id", "vector 'v'", "field 'year'", "index on 'year'", "metric of 'v'", ...
        source: what it is in the source, for people.
        target: what it becomes in the target, for people.
        reason: why, speaking of this data.
        allowed: the owner has allowed this code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    subject: str
    source: str
    target: str
    grade: Grade
    reason: str = ""
    allowed: bool = False

    @property
    def blocks(self) -> bool:
        """Whether the plan cannot run because of this row."""
        return self.grade is Grade.REFUSED or (self.grade is Grade.LOSSY and not self.allowed)


class LossReport(BaseModel):
    """All rows of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[LossRow, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[LossRow], allow: Collection[str]) -> LossReport:
        """A report in which the lossy rows whose code is in `allow` are marked as allowed."""
        return cls(
            rows=tuple(
                row.model_copy(update={"allowed": True}) if row.grade is Grade.LOSSY and row.code in allow else row
                for row in rows
            )
        )

    def counts(self) -> dict[str, int]:
        """How many rows there are of each grade; every grade is a key."""
        return {grade.value: sum(row.grade is grade for row in self.rows) for grade in Grade}

    @property
    def refused(self) -> tuple[LossRow, ...]:
        """Rows that no `allow` lets through."""
        return tuple(row for row in self.rows if row.grade is Grade.REFUSED)

    def check(self) -> None:
        """Make sure that nothing blocks the plan.

        Raises:
            PlanRefused: a row is refused or not allowed; the message lists every such row and what to do.
        """
        blocking = [row for row in self.rows if row.blocks]
        if not blocking:
            return
        lines = [f"the target cannot hold {len(blocking)} thing{'s' * (len(blocking) > 1)} of the source exactly:"]
        for row in blocking:
            lines.append(f"  {row.subject}: {row.source} -> {row.target}: {row.reason}")
            if row.grade is Grade.LOSSY:
                lines.append(f"    to accept this loss, add '{row.code}' to mapping.allow")
        raise PlanRefused("\n".join(lines))
