"""The steps of a cutover, of the way back, and of the end, as they would be made now; finding out changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vectormigrate_dagster.live.journal import Control, Journal, State
from vectormigrate_dagster.live.journal.chunks import MAX_AGE_SECONDS
from vectormigrate_dagster.live.journal.generations import Generations, Standing
from vectormigrate_dagster.model.counting import agreeing, counted

Action = Literal["cutover", "reverse", "complete"]

Gate = Callable[[], Iterable[str]]
"""Says what is in the way of a cutover, each in one sentence; nothing if nothing is."""

SLOW_SECONDS = 1.0
"""What has been under way for longer is worth a word."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be done while the application waits, and how long is waited for that to be little.

    Args:
        freeze_seconds: writes are frozen for so long at most; less than an application waits (`DualWriter`).
        patience_seconds: until the lag is small and no request has an unknown outcome.
        lag_records: changes that may be left to be carried over when writes are frozen.
        max_age_seconds: for which a part of the collection counts as compared.
    """

    freeze_seconds: float = 20.0
    patience_seconds: float = 300.0
    lag_records: int = 500
    max_age_seconds: float = MAX_AGE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step as it would be made now.

    Args:
        does: what, for people.
        done: it is made, or there is nothing to be done.
        blocked_by: what is in the way, each in one sentence.
    """

    does: str
    done: bool = False
    blocked_by: tuple[str, ...] = ()


def refusal(control: Control, action: Action) -> str | None:
    """Why an action makes no sense for a migration as it is; None if it does, or was done."""
    over, gone_back = control.state is State.COMPLETED, control.state is State.REVERSED
    if action == "cutover":
        return (
            "it is completed with the source as the primary; plan it anew"
            if over and not is_done(control, action)
            else None
        )
    if control.primary == "source" and not gone_back and not over:
        return "it was not cut over, so there is nothing to go back from, or to complete; 'cutover' comes first"
    if action == "reverse":
        return "it is completed, so no side follows the other any more" if over else None
    if control.state is State.FROZEN:
        return f"{control.changed_by} is about to go back ({control.reason}); look again after that"
    return None


def is_done(control: Control, action: Action) -> bool:
    """Whether an action has had its effect."""
    if action == "complete":
        return control.state is State.COMPLETED
    if action == "cutover":
        return control.primary == "target"
    return control.primary == "source" and control.state is State.REVERSED


def steps_of(
    journal: Journal,
    chunks: Collection[str],
    action: Action,
    *,
    gates: Sequence[Gate] = (),
    limits: Limits | None = None,
) -> list[Step]:
    """The steps that an action would make now, and what is in the way of each.

    Args:
        journal: the migration's.
        chunks: what a verification compares (`verification.chunks_of`).
        action: which.
        gates: what else must be so before the target becomes the primary.
        limits: of time and amounts.
    """
    limits, control = limits or Limits(), journal.control()
    if is_done(control, action):
        return [Step(does=f"nothing: it is '{control.state.value}', the {control.primary} is the primary", done=True)]
    if (why := refusal(control, action)) is not None:
        return [Step(does=action, blocked_by=(why,))]
    generations = Generations(journal)
    standing = generations.standing(chunks, max_age=limits.max_age_seconds)
    waits = generations.left_of(generations.now() - SLOW_SECONDS)
    left = standing.chunks - standing.compared
    compare = Step(does=f"compare both sides exactly: {left:,} of {counted(standing.chunks, 'part')}", done=not left)
    named = "".join(f"; {what}, {seconds:.0f} s at most" for what, seconds in waits)
    settle = Step(
        does=f"wait until all is over that would make a freeze long{named}",
        done=not waits,
        blocked_by=tuple(until(one for one in waits if one[1] > limits.patience_seconds)),
    )
    if action == "complete":
        return [compare, settle, Step(does=f"let the {control.secondary} be, and forget the journal's entries")]
    closed = tuple(what for gate in gates for what in gate()) if action == "cutover" else ()
    ready = Step(does="load everything, check it, build the indexes", done=not closed, blocked_by=closed)
    return [
        *((ready,) if action == "cutover" else ()),
        _carry_over(journal, limits),
        compare,
        settle,
        *_switch(control, standing, limits),
    ]


def too_short(control: Control, limits: Limits) -> Iterable[str]:
    """Why no freeze could ever be long enough: what is carried over in it, and then compared, must be settled."""
    stale = control.bounds.stale
    needed = stale[control.primary] + max(stale.values())
    if needed >= limits.freeze_seconds:
        yield (
            f"reads may be {max(stale.values()):g} s old, so a freeze takes more than {needed:g} s, but "
            f"'cutover.freeze_seconds' is {limits.freeze_seconds:g}; make it longer, and the patience of DualWriter too"
        )


def until(waiting: Iterable[tuple[str, float]]) -> Iterable[str]:
    """What is waited for, as sentences that say for how long."""
    return (f"{what}; it is over in {max(1.0, seconds):.0f} s at most, try again then" for what, seconds in waiting)


def _carry_over(journal: Journal, limits: Limits) -> Step:
    waiting, few = journal.lag().records, limits.lag_records
    changes = counted(waiting, "change")
    return Step(
        does=f"carry over what waits, {changes}, until no more than {few:,} {agreeing(few, 'is')} left",
        done=waiting <= few,
    )


def _switch(control: Control, standing: Standing, limits: Limits) -> list[Step]:
    frozen, wanted, doubtful = control.state is State.FROZEN, control.secondary, counted(standing.doubtful, "id")
    return [
        Step(
            does=f"freeze writes for {limits.freeze_seconds:g} s at most",
            done=frozen,
            blocked_by=tuple(too_short(control, limits)),
        ),
        Step(does=f"carry over the rest, and look again at what was written since: {doubtful} now"),
        Step(does=f"make the {wanted} the primary; from then on the {control.primary} is kept equal to it"),
    ]
