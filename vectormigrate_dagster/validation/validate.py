"""The three ways to validate: a sample, everything, or one partition."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.model import Split
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.conclude import conclude
from vectormigrate_dagster.validation.context import NO_EXCEPTIONS, Context, Exceptions
from vectormigrate_dagster.validation.count import check_count
from vectormigrate_dagster.validation.ids import IdCheck
from vectormigrate_dagster.validation.listing import Sink, ignore
from vectormigrate_dagster.validation.mismatches import Mismatch, note_different
from vectormigrate_dagster.validation.motion import Motion
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.picture import MOST_RECORDS as PICTURED
from vectormigrate_dagster.validation.records import RecordCheck
from vectormigrate_dagster.validation.report import TierResult, ValidationReport
from vectormigrate_dagster.validation.sample import READ_ALL_BELOW, draw, draw_split
from vectormigrate_dagster.validation.search import SearchCheck, SearchSettings
from vectormigrate_dagster.validation.whole import compare_split


def validate_sample(
    source: Source,
    target: Database,
    mapper: Mapper,
    splits: Sequence[Split],
    *,
    size: int = 1000,
    seed: int = 0,
    tolerance: Tolerance = EXACT,
    exceptions: Exceptions = NO_EXCEPTIONS,
    search: SearchSettings | None = None,
    throttle: Throttle | None = None,
    motion: Motion | None = None,
) -> ValidationReport:
    """Compare counts, a random sample of `size` records, the ids where that is cheap, and answers to searches.

    Ids are compared both ways up to 50,000 records; beyond that, `validate_full` does it. `search` reads all of the
    source's vectors once, whatever `size` is, because the truth is computed from them.

    Args:
        source, target: both sides.
        mapper: what the plan promised.
        splits: all splits of the plan.
        size: records to draw.
        seed: the same seed draws the same records.
        tolerance: what the plan demands of vectors.
        exceptions: what a correct migration leaves different.
        search: what the search tier asks; None leaves the tier out.
        throttle: retry policy and rate.
        motion: knows what an application changes meanwhile.
    """
    started = time.monotonic()
    context = _context(source, target, mapper, splits, tolerance, exceptions, throttle, motion)
    sample = draw(context, size, seed=seed)
    records = RecordCheck(context, sample)
    records.add_all(sample.parts)
    ids = IdCheck(context) if context.source_records <= READ_ALL_BELOW else None
    searched = SearchCheck(context, search, sample.parts) if search is not None else None
    if ids is not None or searched is not None:
        _read_all(context, *(check for check in (ids, searched) if check is not None))
    tiers = [check_count(context), *(check.result() for check in (ids, records, searched) if check is not None)]
    return ValidationReport.of(*tiers, seconds=time.monotonic() - started)


def validate_full(
    source: Source,
    target: Database,
    mapper: Mapper,
    splits: Sequence[Split],
    *,
    seed: int = 0,
    tolerance: Tolerance = EXACT,
    exceptions: Exceptions = NO_EXCEPTIONS,
    search: SearchSettings | None = None,
    throttle: Throttle | None = None,
    motion: Motion | None = None,
    sink: Sink = ignore,
) -> ValidationReport:
    """Compare counts, all ids both ways, all records, and answers to searches; see `validate_sample`.

    Args:
        sink: takes everything that is wrong, of which the report names the first.
    """
    started = time.monotonic()
    context = _context(source, target, mapper, splits, tolerance, exceptions, throttle, motion)
    different = DigestSet()

    def note(found: Iterable[Mismatch]) -> None:
        found = list(found)
        note_different(different, found)
        sink(found)

    outcome = Outcome.sum(compare_split(context, split, sink=note) for split in splits)
    tiers = conclude(context, outcome, sink=sink, different=lambda: different)
    searched = search_whole(context, search, seed=seed)
    return ValidationReport.of(*tiers, *searched, seconds=time.monotonic() - started)


def search_whole(context: Context, search: SearchSettings | None, *, seed: int) -> tuple[TierResult, ...]:
    """The search tier, for which the source is read once; nothing if `search` is None."""
    if search is None:
        return ()
    searched = SearchCheck(context, search, draw(context, max(search.queries, PICTURED), seed=seed).parts)
    _read_all(context, searched)
    return (searched.result(),)


def validate_split(
    source: Source,
    target: Database,
    mapper: Mapper,
    split: Split,
    *,
    size: int = 1000,
    seed: int = 0,
    tolerance: Tolerance = EXACT,
    exceptions: Exceptions = NO_EXCEPTIONS,
    throttle: Throttle | None = None,
    last: str | None = None,
    motion: Motion | None = None,
) -> TierResult:
    """Compare a sample of one split's records, after it was moved up to its id `last` (None: look for its end).

    A split from which nothing was promised, because it is empty or all of it is refused, passes and says so. So does
    one of which all that was drawn is there and is somebody else's: that alone is no fault of the migration.
    """
    context = _context(source, target, mapper, [split], tolerance, exceptions, throttle, motion)
    with source.as_of_now(), target.as_of_now():
        sample = draw_split(context, split, size, seed=seed, last=last)
        records = RecordCheck(context, sample)
        records.add_all(sample.parts)
    result = records.result()  # looks again, as of a later time
    if not sample.parts:
        nothing = f"nothing is promised of {split}: it is empty, or all of its records are refused"
        return result.model_copy(update={"passed": True, "statement": nothing})
    if result.checked == result.missing == result.extra == 0:
        return result.model_copy(update={"passed": True})
    return result


def _context(  # noqa: PLR0917  # in the order of every signature above
    source: Source,
    target: Database,
    mapper: Mapper,
    splits: Sequence[Split],
    tolerance: Tolerance,
    exceptions: Exceptions,
    throttle: Throttle | None,
    motion: Motion | None = None,
) -> Context:
    return Context(
        source=source,
        target=target,
        mapper=mapper,
        splits=splits,
        tolerance=tolerance,
        exceptions=exceptions,
        throttle=throttle or Throttle(),
        motion=motion,
    )


def _read_all(context: Context, *checks: Check) -> None:
    """Read the source once and show every batch to every check."""
    for batch in context.read():
        for check in checks:
            check.add_source(batch)
        for part in context.promised(batch):
            for check in checks:
                check.add(part)
