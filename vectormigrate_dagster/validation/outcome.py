"""What came out of comparing everything of one split, or of several: numbers that add up, and the first findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.validation.report import SHOWN, Finding


class Outcome(BaseModel):
    """What was found in the splits that were compared.

    Args:
        read: records of the source.
        vanished: records that the source listed and could not give.
        promised: records that the target must hold.
        compared: of those, the ones that were compared, and the missing ones.
        left_alone: of those, the ones that are there and are somebody else's.
        mismatched: records that are there and differ.
        missing: records that are not there.
        extra: records of this migration that are there and were not promised.
        others: records of somebody else that were met; they may have stood there before.
        repeated: records that the target returned more than once.
        in_motion: records that differed, and that an application was changing; nothing is said of them.
        counts: mismatches per vector and field.
        findings: the first of what differs, is missing, or came twice.
        surplus: the first of the extra records.
        strangers: the first of the others.
        asked: some records were fetched by their ids, so nobody has looked for others beside them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: int = 0
    vanished: int = 0
    promised: int = 0
    compared: int = 0
    left_alone: int = 0
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    others: int = 0
    repeated: int = 0
    in_motion: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    surplus: tuple[Finding, ...] = ()
    strangers: tuple[Finding, ...] = ()
    asked: bool = False
    seconds: float = 0.0

    @property
    def met(self) -> int:
        """Records of the target that were looked at, each once."""
        return self.promised - self.missing + self.extra + self.others

    @classmethod
    def sum(cls, outcomes: Iterable[Outcome]) -> Outcome:
        """All of them together."""
        total, counts = Counter[str](), Counter[str]()
        findings: dict[str, tuple[Finding, ...]] = dict.fromkeys(_FINDINGS, ())
        asked, seconds = False, 0.0
        for outcome in outcomes:
            total.update({name: getattr(outcome, name) for name in _NUMBERS})
            counts.update(outcome.counts)
            findings = {name: (found + getattr(outcome, name))[:SHOWN] for name, found in findings.items()}
            asked |= outcome.asked
            seconds += outcome.seconds
        return cls(**total, **findings, counts=dict(counts.most_common()), asked=asked, seconds=seconds)


_FINDINGS = ("findings", "surplus", "strangers")
_NUMBERS = (
    "read",
    "vanished",
    "promised",
    "compared",
    "left_alone",
    "mismatched",
    "missing",
    "extra",
    "others",
    "repeated",
    "in_motion",
)
