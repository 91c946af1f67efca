"""The tiers of a full validation, from what all splits have shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from vectormigrate_dagster.model import id_text
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.validation.beyond import look_beyond
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.count import check_count
from vectormigrate_dagster.validation.listing import Listing, Sink, finding_of
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.motion import slack
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.report import SHOWN, TierResult


def conclude(
    context: Context, outcome: Outcome, *, sink: Sink, different: Callable[[], DigestSet]
) -> tuple[TierResult, TierResult, TierResult]:
    """The count, ids and records tiers.

    Args:
        context: both sides, with all splits of the plan.
        outcome: what comparing every split has shown.
        sink: takes everything that is certainly wrong.
        different: gives the ids under which comparing every split has found something else than was promised.
    """
    counted = check_count(context, accounted=outcome.read + outcome.vanished)
    started = time.monotonic()
    surplus = context.target_records - outcome.met
    if surplus > 0 or (outcome.asked and not _is_proven(context, surplus)):
        outcome = Outcome.sum([outcome, look_beyond(context, sink=sink, different=different())])
        surplus = context.target_records - outcome.met
    # Not before: what lies beyond is looked at record by record, which excuses no more than what is in motion.
    if surplus and abs(surplus) <= slack(context):
        surplus = 0
    if surplus > outcome.repeated:
        outcome = Outcome.sum([outcome, _repeated(context, sink)])
    ids = _ids(context, outcome, surplus, seconds=outcome.seconds + time.monotonic() - started)
    return counted, ids, _records(context, outcome)


def _repeated(context: Context, sink: Sink) -> Outcome:
    """The first ids that several rows of the target have, of which a reader sees one."""
    target, retry = context.target, context.throttle.target
    found: list[Mismatch] = []
    scopes: Sequence[str | None] = retry.call(target.scopes) or [None]
    for scope in scopes:
        ids = retry.call(partial(target.repeated_ids, scope))
        if len(ids):
            rows = retry.call(partial(target.fetch, ids, scope)).batch
            listing = Listing(context.mapper, rows.slice(0, 0), rows)
            found += listing.duplicates(map(id_text, rows.ids.to_pylist()))
    sink(found)
    return Outcome(repeated=len(found), findings=tuple(map(finding_of, found[:SHOWN])))


def _is_proven(context: Context, surplus: int) -> bool:
    """Whether there is nothing beside the promised records, which are all there: their number says so.

    It does not where two records of the source may have become one, and where somebody else's stood there before and
    may have gone since.
    """
    return surplus == 0 and context.exceptions.pre_existing == 0 and context.mapper.keeps_ids_apart


def _ids(context: Context, outcome: Outcome, surplus: int, *, seconds: float) -> TierResult:
    """Every promised id once, and no other."""
    before = context.exceptions.pre_existing
    too_many = max(0, outcome.others - before)
    extra = outcome.extra + too_many
    twice = max(outcome.repeated, surplus)  # an answer that repeats an id may or may not be counted as well
    collisions = max(0, -surplus) if outcome.asked else 0
    clean = not (outcome.missing or extra or twice or collisions)
    named = [found for found in outcome.findings if found.where == "record"]
    named += [*outcome.surplus, *(outcome.strangers if too_many else ())]
    return TierResult(
        tier="ids",
        passed=clean and (outcome.promised > 0 or context.both_empty),
        checked=outcome.promised,
        mismatched=collisions + twice,
        missing=outcome.missing,
        extra=extra,
        in_motion=outcome.in_motion,
        statement=_ids_statement(context, outcome, extra=extra, collisions=collisions, twice=twice),
        differences=tuple(named[:SHOWN]),
        seconds=seconds,
    )


def _ids_statement(context: Context, outcome: Outcome, *, extra: int, collisions: int, twice: int) -> str:
    if outcome.promised == 0 and context.both_empty:
        return "both collections are empty"
    text = f"{outcome.promised:,} ids compared both ways: {outcome.missing:,} missing, {extra:,} extra"
    before = context.exceptions.pre_existing
    text += f" beyond the {before:,} that stood there before" if before else ""
    text += f"; {collisions:,} records share an id with another after mapping" if collisions else ""
    text += f"; {twice:,} ids are in the target more than once" if twice else ""
    text += _motion_text(outcome)
    return text if outcome.promised else f"{text}; nothing was promised, so nothing is proven"


def _records(context: Context, outcome: Outcome) -> TierResult:
    """Vectors and payloads of every promised record."""
    wrong = outcome.mismatched + outcome.missing
    return TierResult(
        tier="records",
        passed=wrong == 0 and outcome.repeated == 0 and (outcome.compared > 0 or context.both_empty),
        checked=outcome.compared,
        mismatched=outcome.mismatched,
        missing=outcome.missing,
        extra=outcome.repeated,
        in_motion=outcome.in_motion,
        statement=_records_statement(context, outcome, wrong),
        differences=outcome.findings,
        counts=outcome.counts,
        seconds=outcome.seconds,
    )


def _motion_text(outcome: Outcome) -> str:
    return f"; {outcome.in_motion:,} are in motion and left to catch-up" if outcome.in_motion else ""


def _records_statement(context: Context, outcome: Outcome, wrong: int) -> str:
    left = f"; {outcome.left_alone:,} of somebody else's were left alone" if outcome.left_alone else ""
    left += _motion_text(outcome)
    if outcome.compared == 0:
        empty = context.both_empty
        return "both collections are empty" if empty else f"no record was compared, so nothing is proven{left}"
    text = f"{wrong:,} of {outcome.compared:,} differ; all were compared"
    return text + (f" ({outcome.missing:,} are missing)" if outcome.missing else "") + left
