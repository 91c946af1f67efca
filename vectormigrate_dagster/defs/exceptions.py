"""What a correct migration still leaves different: records refused, vanished, or not ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.refusals import Where, list_unlike, read_refusals, refusals_path, vanished_path
from vectormigrate_dagster.defs.state import SINCE_LOAD, PartitionState, SinceLoad, TargetState
from vectormigrate_dagster.defs.target import overwritten, written_by
from vectormigrate_dagster.live.journal import Journal, Key, State, Verdict
from vectormigrate_dagster.live.judging import is_excused
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import ScopeKind, Split
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster.validation import Exceptions


def exceptions_of(
    log: MigrationLog, plan: Plan, keys: Iterable[str] | None = None, *, journal: Journal | None
) -> Exceptions:
    """What is known to differ, over some partitions of a plan or (None) all.

    Args:
        log: the state, refreshed.
        plan: the plan.
        keys: partitions to look at.
        journal: knows what became of records that a re-sync has looked at since the load, which counts in place of
            what the load has said; None for a plan that was made before there were journals.
    """
    chosen = [planned.key for planned in plan.splits] if keys is None else list(keys)
    states = {key: state for key in chosen if (state := log.partition(plan, key)) is not None}
    target = log.target(plan)
    if target is None:
        return Exceptions()
    ownership = written_by(log, plan, chosen, target)
    some = None if keys is None else frozenset(chosen)
    since = _Since(plan, some, journal)
    refused = {key: _listed(log, key) for key in chosen}
    vanished = {key: map(_where, read_refusals(vanished_path(log, key))) for key in states} if since.any else {}
    # Where all of the target is ours, what is left alone there is somebody's mistake, and is to be told.
    alone = [] if ownership is None else since.left_alone
    return Exceptions(
        refused=sum(state.refused - since.judged(refused[key], state.refused) for key, state in states.items())
        + len(since.excused),
        vanished=sum(
            state.vanished - since.judged(vanished.get(key, ()), state.vanished) for key, state in states.items()
        ),
        pre_existing=_strangers(log, target, states.values(), alone),
        left_alone=len(alone),
        refused_ids=_refused_ids(since, refused.values()),
        refused_now=lambda: _refused_ids(_Since(plan, some, journal), (_listed(log, key) for key in chosen)),
        ours=None if ownership is None else ownership.wrote,
    )


def _refused_ids(since: _Since, listed: Iterable[Iterable[Where]]) -> frozenset[Where]:
    """Where the records are that the target refused, as the load and whoever has looked at them since have said."""
    return (since.excused | since.newer).union(where for places in listed for where in places if since.is_open(where))


def _listed(log: MigrationLog, key: str) -> list[Where]:
    return list(map(_where, read_refusals(refusals_path(log, key))))


def note_unlike(log: MigrationLog, plan: Plan, journal: Journal) -> None:
    """Tell people what catching up has found that cannot be moved: in a list, and in what `status` counts.

    Once a migration is completed, the journal has forgotten, and what was told last stays.

    Raises:
        StorageFailed: the list cannot be written.
    """
    list_unlike(log, plan, journal)
    found, told = _since_load(log, plan, journal), log.since_load(plan)
    is_news = (found.refused, found.vanished) != (told.refused, told.vanished)
    if is_news and journal.control().state is not State.COMPLETED:  # asked after the journal was read
        log.record(SINCE_LOAD, found)


def _since_load(log: MigrationLog, plan: Plan, journal: Journal) -> SinceLoad:
    """What the journal's verdicts change in the numbers of the load; `exceptions_of` counts alike."""
    since = _Since(plan, None, journal)
    if not since.any:
        return SinceLoad(plan=plan.digest)
    refused = vanished = 0
    for key, state in log.partitions(plan).items():
        refused += since.judged(_listed(log, key), state.refused)
        vanished += since.judged(map(_where, read_refusals(vanished_path(log, key))), state.vanished)
    return SinceLoad(plan=plan.digest, refused=len(since.excused) - refused, vanished=-vanished)


def pre_existing(log: MigrationLog, plan: Plan, journal: Journal | None) -> int:
    """How many records of somebody else stood in the target and are under no id of ours, over the whole plan."""
    target = log.target(plan)
    if target is None or target.state == "created":
        return 0
    return _strangers(log, target, log.partitions(plan).values(), _Since(plan, None, journal).left_alone)


def _strangers(
    log: MigrationLog, target: TargetState, states: Iterable[PartitionState], alone: Iterable[Verdict]
) -> int:
    """How many records of somebody else may be under no id of ours.

    Args:
        log: the state.
        target: what was there before.
        states: of the partitions.
        alone: what catching up has left alone; of what the source has no more, the load may have been skipped there.
    """
    there = target.records_before - overwritten(log)
    skipped = sum(state.skipped for state in states) - sum(not verdict.promised for verdict in alone)
    return max(0, there - max(0, skipped))


class _Since:
    """What is known of records that a re-sync has looked at since the load.

    Args:
        plan: the plan.
        chosen: partitions to look at; None is all.
        journal: see `exceptions_of`.
    """

    def __init__(self, plan: Plan, chosen: Collection[str] | None, journal: Journal | None) -> None:
        self._divided = plan.mapping.source_schema.scope not in (ScopeKind.NONE, ScopeKind.FIELD)
        splits = [planned.split for planned in plan.splits if chosen is None or planned.key in chosen]
        self._splits = {(self._scope(split.scope), split.kind): split.scope for split in splits}
        moved = {scope for scope, _ in self._splits}
        verdicts = [] if journal is None else journal.verdicts(plan.generation).all()
        self._judged = {(verdict.key.scope, verdict.key.text) for verdict in verdicts}
        mine = [verdict for verdict in verdicts if self._is_of(verdict.key, None if chosen is None else splits)]
        self.left_alone = [one for one in mine if one.primary == "source" and one.outcome == Outcome.LEFT_ALONE]
        self.excused = frozenset(
            (self._splits[one.key.scope, one.key.kind], one.key.text) for one in mine if is_excused(one)
        )
        beyond = [] if chosen is not None else [one for one in verdicts if one.key.scope not in moved]
        self.newer = frozenset((one.key.scope, one.key.text) for one in beyond if is_excused(one))
        """Of scopes that appeared after the plan, which no partition has and no count is about."""

    @property
    def any(self) -> bool:
        """Whether anything is known."""
        return bool(self._judged)

    def is_open(self, where: Where) -> bool:
        """Whether what the load has said of a record still counts."""
        return (self._scope(where[0]), where[1]) not in self._judged

    def judged(self, listed: Iterable[Where], counted: int) -> int:
        """Of how many records of a list the load's word does not count any more.

        Args:
            listed: the list.
            counted: lines that the partition's state counts.
        """
        return sum(not self.is_open(where) for where in islice(listed, counted))

    def _is_of(self, key: Key, splits: Sequence[Split] | None) -> bool:
        """Whether a record is of some partitions; None are all, which have every id of the scopes that are moved."""
        if (key.scope, key.kind) not in self._splits or splits is None:
            return (key.scope, key.kind) in self._splits
        return any(
            self._scope(split.scope) == key.scope and split.kind is key.kind and split.contains(key.id)
            for split in splits
        )

    def _scope(self, scope: str | None) -> str | None:
        return scope if self._divided else None


def _where(refusal: Refusal) -> Where:
    return refusal.scope, refusal.id
