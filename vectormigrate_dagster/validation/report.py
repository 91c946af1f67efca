"""What a validation says: one result per tier, and all of them together."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.model.compare import Difference
from vectormigrate_dagster.validation.figures import Histogram, Projection, SearchGroup, WorstQuery

SHOWN = 20
"""Differences that a result lists; it counts all of them."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Result):
    """One thing that is not as promised.

    Args:
        id: the record's id in the target, in text form.
        where: "record", "vector 'v'" or "field 'a'".
        expected, actual: text for people.
        scope: the record's scope in the target.
    """

    id: str
    where: str
    expected: str
    actual: str
    scope: str | None = None

    @classmethod
    def of(cls, difference: Difference, scope: str | None) -> Finding:
        """The finding that a difference is."""
        return cls(
            id=difference.id,
            where=difference.where,
            expected=difference.expected,
            actual=f"{difference.actual} ({difference.detail})",
            scope=scope,
        )

    @classmethod
    def missing(cls, text: str, scope: str | None) -> Finding:
        """A record that should be there and is not."""
        return cls(id=text, where="record", expected="present", actual="missing", scope=scope)

    @classmethod
    def surplus(cls, text: str, scope: str | None) -> Finding:
        """A record that is there and should not be."""
        return cls(id=text, where="record", expected="absent", actual="present", scope=scope)


class TierResult(_Result):
    """What one tier found.

    Args:
        tier: "count", "ids", "records" or "search".
        passed: whether everything that was checked is as promised; never True when nothing was checked, unless
            both collections are empty, or, of the search tier, all that was asked is in motion.
        checked: records, or queries of the search tier.
        mismatched: checked ones that are on both sides and differ.
        missing, extra: records that the target lacks, or has beyond what was expected.
        in_motion: records that differed while an application was changing them; neither right nor wrong.
        statement: the result as a sentence, with what it lets one conclude.
        differences: the first 20.
        counts: mismatches per vector and field.
        measures: numbers of this tier, such as the mean overlap.
        groups: of the search tier: queries by one vector, filtered or not.
        worst_queries: of the search tier: the first few whose answers are not all right.
        skipped: what this tier did not look at, and why; it proves nothing about that.
        histograms: of the search tier: how near sampled vectors of the target are to the promised ones.
        projection: of the search tier: the same vectors on a plane.
    """

    tier: str
    passed: bool
    checked: int
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    in_motion: int = 0
    statement: str
    differences: tuple[Finding, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    measures: dict[str, float] = Field(default_factory=dict)
    groups: tuple[SearchGroup, ...] = ()
    worst_queries: tuple[WorstQuery, ...] = ()
    skipped: tuple[str, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    projection: Projection | None = None
    seconds: float = 0.0


class ValidationReport(_Result):
    """All tiers of one validation.

    Args:
        passed: whether every tier passed, and there is one.
        skipped: what no tier looked at, and why.
        plan: digest of the plan against which it was made.
        seed: what random choices began with; the same one makes the same choices.
        began_at, ended_at: when both sides were looked at, in UTC.
        looked_at: how much was looked at: "full" or "sample".
        mismatches: file or folder with everything that is wrong; None if nothing is, or nobody asked for a list.
        digest: SHA-256 of all of the above as JSON; None before the report is sealed.
    """

    passed: bool
    tiers: tuple[TierResult, ...]
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    plan: str | None = None
    seed: int | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    looked_at: str | None = None
    mismatches: str | None = None
    digest: str | None = None

    @classmethod
    def of(cls, *tiers: TierResult, seconds: float) -> ValidationReport:
        """The report on these tiers."""
        return cls(passed=bool(tiers) and all(tier.passed for tier in tiers), tiers=tiers, seconds=seconds)

    def sealed(self, **known: Any) -> ValidationReport:
        """The same report with what else is known, and a digest over all of it."""
        report = self.model_copy(update={**known, "digest": None})
        return report.model_copy(update={"digest": report.compute_digest()})

    def compute_digest(self) -> str:
        """SHA-256 of the report as JSON with sorted keys, but for its digest; who reads a report can check it so."""
        document = self.model_dump(mode="json", exclude={"digest"})
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def tier(self, name: str) -> TierResult:
        """The result of one tier; KeyError if it was not asked for."""
        for tier in self.tiers:
            if tier.tier == name:
                return tier
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return self.model_dump(mode="json")


def upper_bound(failures: int, checked: int, *, confidence: float = 0.95) -> float:
    """The share of bad records that a random sample does not rule out: Clopper-Pearson, one-sided, exact.

    The largest p for which `failures` or fewer bad ones out of `checked` have a probability of at least
    1 - `confidence` (https://doi.org/10.1093/biomet/26.4.404).
    """
    if checked <= failures:
        return 1.0
    low, high = failures / checked, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(failures, checked, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(failures: int, checked: int, share: float) -> float:
    """Probability of at most `failures` bad ones among `checked`, when `share` of all are bad."""
    if not 0 < share < 1:
        return 1.0 if share <= 0 else 0.0
    whole = math.lgamma(checked + 1)
    return math.fsum(
        math.exp(
            whole
            - math.lgamma(bad + 1)
            - math.lgamma(checked - bad + 1)
            + bad * math.log(share)
            + (checked - bad) * math.log1p(-share)
        )
        for bad in range(failures + 1)
    )


def share_text(failures: int, checked: int, *, runs: int = 0, at_random: int = 0) -> str:
    """The sentence "0 of 1,000 differ: at most 0.30 % wrong at 95 % confidence".

    Neighbours are not independent, so that records which were read in runs bound the share of runs, not of records.

    Args:
        failures: records that differ.
        checked: records that were compared.
        runs: runs of neighbours that they were read in; 0 if each was drawn by itself.
        at_random: how many of the runs are from random places.
    """
    text = f"{failures:,} of {checked:,} differ"
    if runs == 0:
        return f"{text}: at most {100 * upper_bound(failures, checked):.2f} % wrong at 95 % confidence"
    text += f", in {runs:,} runs of neighbours"
    if at_random == 0:
        return f"{text} from fixed places (the ids have no random ones), so no bound on the others follows"
    text += " from random places" if at_random == runs else f", {at_random:,} of them from random places"
    if failures:
        return text
    return (
        f"{text}: at most {100 * upper_bound(0, at_random):.2f} % of such runs hold a wrong record at 95 % confidence"
    )
