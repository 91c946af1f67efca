"""What is kept of keys after a re-sync, so that whoever compares both sides knows what may rightly differ.

The load lists what it could not move, and no list of its is ever mended: a verdict on a key takes the place of what the
load has said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from vectormigrate_dagster.live.journal import Journal, Judged, Key, Side, Verdict
from vectormigrate_dagster.transfer.resync import Outcome

UNLIKE = (Outcome.REFUSED, Outcome.LEFT_ALONE, Outcome.CHANGED, Outcome.STILL_WRONG)
"""Outcomes after which a key is not the same on both sides, the worst first."""

LoadLists = Callable[[], Collection[tuple[str | None, str]]]
"""Scope and id in the source, as text, of the records that the load could not move: refused, or vanished."""


def no_lists() -> Collection[tuple[str | None, str]]:
    """A load that has moved everything."""
    return frozenset()


@dataclass(frozen=True)
class Came:
    """What came of a key.

    Args:
        outcome: what.
        reason: why, for people.
        promised: the primary's record promises one on the other side.
        nowhere: the target lacks the record, or has no place for it, which is why nothing was done.
    """

    outcome: Outcome
    reason: str = ""
    promised: bool = False
    nowhere: bool = False


class Judge:
    """Says what is to be kept of keys that were re-synced under one lease.

    Args:
        journal: the migration's.
        generation: of the plan.
        load_lists: is asked once, after the keys' entries were listed: a load that goes on lists a record before it
            asks for another look at it.
        primary: the side that is right.
    """

    def __init__(self, journal: Journal, generation: int, load_lists: LoadLists, primary: Side) -> None:
        self._generation = generation
        self._verdicts = journal.verdicts(generation)
        self._load_lists = load_lists
        self._primary = primary
        self._listed: Collection[tuple[str | None, str]] | None = None

    def judged(self, came: Mapping[Key, Came]) -> Judged:
        """What is to be kept of keys, which are in their canonical form."""
        if self._listed is None:
            self._listed = self._load_lists()
        stand = self._standing([key for key, one in came.items() if one.nowhere and self._primary == "target"])
        kept, dropped = [], []
        for key, one in came.items():
            if key in stand:
                continue
            alike = one.outcome not in UNLIKE
            if alike and (key.scope, key.text) not in self._listed:
                dropped.append(key)
                continue
            verdict = Verdict(
                key=key,
                primary=self._primary,
                outcome=one.outcome.value,
                reason=one.reason,
                alike=alike,
                promised=one.promised,
            )
            kept.append(verdict)
        return Judged(generation=self._generation, kept=kept, dropped=dropped)

    def _standing(self, absent: list[Key]) -> set[Key]:
        """Those of some keys that the target lacks and never had, as is known: the way back has nothing to add."""
        if not absent:
            return set()
        verdicts, listed = self._verdicts.of(absent), self._listed or ()
        return {
            key for key in absent if (is_excused(verdicts[key]) if key in verdicts else (key.scope, key.text) in listed)
        }


def is_excused(verdict: Verdict) -> bool:
    """Whether a key's record is rightly missing in the target, because that cannot hold it."""
    return verdict.primary == "source" and verdict.outcome == Outcome.REFUSED
