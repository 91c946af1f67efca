"""Records by their ids, as they were seen on both sides, and what became of them in a re-sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.model.compare import Comparison
from vectormigrate_dagster.model.digests import record_digests

_DIGEST_BYTES = 16


class Outcome(StrEnum):
    """What became of a record; the last one alone is worth another try."""

    REPAIRED = "repaired"
    ALREADY_RIGHT = "already_right"
    GONE = "gone"
    REFUSED = "refused"
    CHANGED = "changed_on_both_sides"
    LEFT_ALONE = "left_alone"
    STILL_WRONG = "still_wrong"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A record when it was looked at.

    Args:
        promised, found: `record_digests` of what the source promised and of what the target held; None is no record.
    """

    promised: bytes | None
    found: bytes | None


@dataclass(frozen=True, kw_only=True)
class Resynced:
    """What became of one record.

    Args:
        outcome: what.
        reason: why, for people; empty where the outcome says all.
        seen: what was seen at the end.
    """

    outcome: Outcome
    reason: str = ""
    seen: Seen


@dataclass(frozen=True)
class Records:
    """Records by the text of their ids; None is no records at all."""

    batch: Batch | None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id -> row."""
        ids = [] if self.batch is None else self.batch.ids.to_pylist()
        return {id_text(value): row for row, value in enumerate(ids)}

    @cached_property
    def _digests(self) -> list[bytes]:
        # numpy cuts zeros off the end of an S16 value.
        digests = [] if self.batch is None else record_digests(self.batch).tolist()
        return [digest.ljust(_DIGEST_BYTES, b"\0") for digest in digests]

    def digest(self, text: str) -> bytes | None:
        """The digest of a record; None if there is none."""
        row = self.rows.get(text)
        return None if row is None else self._digests[row]


def differences_of(comparison: Comparison) -> dict[str, str]:
    """How each record differs, by its id."""
    found = dict.fromkeys(comparison.missing, "it is missing")
    for difference in comparison.differences:
        found.setdefault(difference.id, f"{difference.where}: {difference.detail}")
    return found


def seen_of(text: str, promised: Records, found: Records) -> Seen:
    """A record as it is now."""
    return Seen(promised=promised.digest(text), found=found.digest(text))


def after(
    text: str, promised: Records, found: Records, wrong: Mapping[str, str], refused: Mapping[str, str]
) -> Resynced:
    """What became of a record that was written or deleted."""
    seen = seen_of(text, promised, found)
    if text in refused:
        return Resynced(outcome=Outcome.REFUSED, reason=refused[text], seen=seen)
    if seen.promised is None and seen.found is not None:
        return Resynced(outcome=Outcome.STILL_WRONG, reason="it was deleted, and is still there", seen=seen)
    if text in wrong:
        return Resynced(outcome=Outcome.STILL_WRONG, reason=f"it was written; {wrong[text]}", seen=seen)
    return Resynced(outcome=Outcome.REPAIRED, seen=seen)
