"""Documents as text for people; made for 80 columns and up."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from vectormigrate_dagster.model.counting import agreeing, counted

if TYPE_CHECKING:
    from vectormigrate_dagster.mapping.recommend import SchemaRecommendation
    from vectormigrate_dagster.services.models import (
        DemoDocument,
        EndpointDocument,
        ExportDocument,
        ImportFilesDocument,
        LiveStatus,
        LookupDocument,
        MigrationList,
        PlanDocument,
        RecordPlace,
        RepairDocument,
        RollbackDocument,
        Status,
        ValidationDocument,
    )

__all__ = [
    "console",
    "duration",
    "show_demo",
    "show_export",
    "show_import_files",
    "show_list",
    "show_lookup",
    "show_plan",
    "show_recommendation",
    "show_repair",
    "show_rollback",
    "show_status",
    "show_validation",
    "status_table",
]

_WIDE = 120
_STATUS_STYLE = {
    "completed": "green",
    "in_progress": "cyan",
    "failed": "red",
    "stopped": "yellow",
    "rolled_back": "yellow",
}
_INDEXING = {
    "deferred": "put off until the load ends; 'migrate' goes on, 'stop' ends it",
    "building": "being built by the target",
    "built": "built",
}
_TOLD = ("frozen", "reversed", "completed")
"""States of a live migration that are worth a line though nothing is behind."""

_OUTCOMES = ("repaired", "already right", "gone", "refused", "changed on both sides", "left alone", "still wrong")
_GRADE_STYLE = {"exact": "green", "widened": "cyan", "lossy": "yellow", "refused": "red"}


def console() -> Console:
    """Standard output; in a pipe as wide as a wide terminal, as nobody can widen it there."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def duration(seconds: float) -> str:
    """A time span for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes_of_hour} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_status(status: Status) -> None:
    """Print where a migration stands."""
    console().print(status_table(status))


def status_table(status: Status) -> Group:
    """Where a migration stands, as rows of a name and a value."""
    progress, partitions = status.progress, status.partitions
    rows = [
        ("source", _place(status.source)),
        ("target", _place(status.target)),
        (
            "records",
            f"{progress.migrated_records:,} of {progress.total_records:,} ({progress.percentage:.2f} %)",
        ),
        ("partitions", _partitions(partitions.total, partitions.done, partitions.running, partitions.failed)),
    ]
    if status.rate_per_second is not None:
        left = "" if status.eta_seconds is None else f", {duration(status.eta_seconds)} left"
        rows.append(("rate", f"{status.rate_per_second:,.0f} records/s{left}"))
    if status.started_at is not None:
        rows.append(("started", f"{status.started_at:%Y-%m-%d %H:%M:%S} UTC"))
    if status.started_at is not None and status.ended_at is not None:
        took = (status.ended_at - status.started_at).total_seconds()
        rows.append(("ended", f"{status.ended_at:%Y-%m-%d %H:%M:%S} UTC, after {duration(took)}"))
    if status.indexing is not None:
        rows.append(("index", _INDEXING[status.indexing]))
    if any(status.loss.model_dump().values()):
        rows.append(("schema", _grades(status.loss.model_dump())))
    if status.validation.passed is not None:
        rows.append(("validation", _validation(status)))
    live = status.live
    worth = live.lag_records or live.unlike or live.parts or live.primary == "target"
    if live.state in _TOLD or (live.state is not None and worth):
        rows.append(("live", _live(live)))
    if status.last_error is not None:
        rows.append(("last error", status.last_error))
    title = Text.assemble((status.migration_id, "bold"), "  ", _status(status.status), (f"  {status.phase}", "dim"))
    return _facts(rows, title)


def _live(live: LiveStatus) -> str:
    waiting, unlike = live.lag_records or 0, live.unlike or 0
    behind = (
        f"{counted(waiting, 'change')} {agreeing(waiting, 'waits')}, the oldest for {duration(live.lag_seconds or 0)}"
    )
    level = "level" if not live.lag_records else behind
    follows = "no side follows the other" if live.state == "completed" else level
    alike = f"; {unlike:,} {agreeing(unlike, 'is')} not alike (refused/catch-up.jsonl in the home)" if unlike else ""
    compared = f"; {live.compared:,} of {counted(live.parts, 'part')} {agreeing(live.compared, 'is')} compared"
    comparing = compared if live.parts else ""
    # Nobody writes each second how far it is, and where nobody looks at all the last word stands for ever.
    age = "" if live.at is None else f" (as of {duration(max(0.0, (datetime.now(UTC) - live.at).total_seconds()))} ago)"
    return f"{(live.state or '').replace('_', ' ')}, the {live.primary} is primary: {follows}{comparing}{alike}{age}"


def show_list(found: MigrationList, folder: Path) -> None:
    """Print the migrations of a folder."""
    out = console()
    if not found.migrations:
        out.print(f"no migrations in {folder}; 'vectormigrate init ID' writes one")
    else:
        table = _table("migration", "status", ("records", "right"), ("of", "right"), ("%", "right"), "created (UTC)")
        for row in found.migrations:
            created = "" if row.created_at is None else f"{row.created_at:%Y-%m-%d %H:%M}"
            progress = row.progress
            numbers = (f"{progress.current:,}", f"{progress.total:,}", f"{progress.percent:.2f}")
            table.add_row(row.migration_id, _status(row.status), *numbers, created)
        out.print(table)
        if found.total > found.offset + len(found.migrations):
            out.print(f"{len(found.migrations)} of {found.total}; --offset and --limit show the others")
    for broken in found.broken:
        out.print(Text.assemble(("broken  ", "red"), broken.error))


def show_plan(plan: PlanDocument) -> None:
    """Print what a migration will do."""
    out = console()
    rows = [
        ("source", _place(plan.source)),
        ("target", _place(plan.target)),
        ("records", f"{plan.records:,} in {_some(plan.partitions, 'partition')}"),
        ("schema", _grades(plan.loss.model_dump())),
    ]
    if plan.conflicts is not None:
        rows.append(("conflicts", plan.conflicts))
    if plan.estimate.seconds is not None:
        rows.append(("estimate", f"about {duration(plan.estimate.seconds)}"))
    if plan.estimate.requests is not None:
        rows.append(("requests", f"about {plan.estimate.requests:,}"))
    if plan.estimate.units is not None:
        rows.append(("units", f"about {plan.estimate.units:,}"))
    rows.append(("plan", f"generation {plan.generation}, {plan.digest[:12]}"))
    out.print(_facts(rows, Text(plan.migration_id, style="bold")))
    out.print()
    table = _table("grade", "what", "source", "target")
    for row in plan.mapping:
        allowed = " (allowed)" if row.allowed else ""
        grade = Text(f"{row.grade.value}{allowed}", style=_GRADE_STYLE[row.grade.value])
        table.add_row(grade, row.subject, row.source, row.target)
    out.print(table)
    reasons = [row for row in plan.mapping if row.reason and row.grade.value != "exact"]
    if reasons:
        out.print()
        out.print(_facts([(row.subject, f"{row.reason} [{row.code}]") for row in reasons], Text("why", style="bold")))


def show_rollback(done: RollbackDocument) -> None:
    """Print what a rollback did."""
    made = "deleted, as it was empty" if done.dropped else "kept"
    kept = f"kept, with {done.remaining:,} records in it" if done.remaining else made
    rows = [
        (
            "generation",
            f"{done.generation}, rolled back before: nothing to do" if done.already else f"{done.generation}",
        ),
        ("as before", f"{done.undone:,} records deleted or written back"),
        ("left", f"{done.left:,} records that somebody has changed since" if done.left else "nothing"),
        ("collection", f"'{done.target.collection}' {kept}"),
        ("took", duration(done.seconds)),
    ]
    console().print(_facts(rows, Text(done.migration_id, style="bold")))


def show_validation(result: ValidationDocument) -> None:
    """Print what each tier of a validation found."""
    out = console()
    extent = "every record" if result.full else "a sample"
    title = Text.assemble(
        (result.migration_id, "bold"), "  ", _verdict(result.passed), f"  {extent}, {duration(result.seconds)}"
    )
    out.print(title)
    table = _table("tier", "result", ("checked", "right"), ("wrong", "right"), "finding")
    for tier in result.tiers:
        table.add_row(tier.name, _verdict(tier.passed), f"{tier.checked:,}", f"{tier.mismatched:,}", tier.summary)
    out.print(table)
    if result.mismatches is not None:
        out.print(f"records that differ: {result.mismatches}", soft_wrap=True)


def show_repair(result: RepairDocument) -> None:
    """Print what became of the records that were listed."""
    out = console()
    right = "nothing is left" if result.listed else "nothing was listed"
    verdict = Text(right, style="green") if result.passed else Text("NOT ALL REPAIRED", style="red")
    rows = [("listed", f"{result.listed:,}")]
    rows += [(name, f"{count:,}") for name in _OUTCOMES if (count := getattr(result, name.replace(" ", "_")))]
    passes = f"{result.generations} pass{'' if result.generations == 1 else 'es'}"
    title = Text.assemble((result.migration_id, "bold"), "  ", verdict, f"  {passes}, {duration(result.seconds)}")
    out.print(_facts(rows, title))
    if result.left:
        out.print()
        table = _table("record", "scope", "outcome", "why")
        for one in result.left:
            table.add_row(one.id, one.scope or "-", one.outcome.replace("_", " "), one.reason)
        out.print(table)
    if not result.progress:
        out.print("the last pass repaired nothing, so no other was tried")
    if result.mismatches is not None:
        out.print(f"records that are left: {result.mismatches}", soft_wrap=True)


def show_lookup(result: LookupDocument) -> None:
    """Print a record as both sides hold it."""
    out = console()
    for name, place in (("source", result.source), ("target", result.target)):
        out.print(_record(name, place))
    if result.partition is not None:
        out.print(f"partition {result.partition}")


def show_export(result: ExportDocument | ImportFilesDocument) -> None:
    """Print what was written where."""
    out = console()
    table = _table("scope", ("records", "right"), ("files", "right"), "folder")
    for scope in result.scopes:
        table.add_row(scope.scope or "-", f"{scope.records:,}", f"{scope.files:,}", scope.folder)
    out.print(table)
    out.print(
        f"{result.records:,} records, {result.bytes / 2**20:,.1f} MiB in {duration(result.seconds)}, in {result.to}",
        soft_wrap=True,
    )


def show_import_files(result: ImportFilesDocument) -> None:
    """Print what was written where, and what is to be done with it."""
    show_export(result)
    out = console()
    if result.refused:
        out.print(
            f"{result.refused:,} records have no place in the target; {result.refused_file} says why", soft_wrap=True
        )
    for number, step in enumerate(result.steps, 1):
        out.print(f"{number}. {step}", soft_wrap=True)


def show_recommendation(result: SchemaRecommendation) -> None:
    """Print a recommended schema."""
    out = console()
    out.print(f"{result.source_type} to {result.target_type}, confidence {result.overall_confidence:.2f}")
    if result.field_mappings:
        table = _table("field", "becomes", ("confidence", "right"), "converted", "notes")
        for row in result.field_mappings:
            converted = "yes" if row.conversion_needed else "no"
            table.add_row(row.source_field, row.target_field, f"{row.confidence:.2f}", converted, row.notes)
        out.print(table)
    for warning in result.warnings:
        out.print(Text.assemble(("warning  ", "yellow"), warning))


def show_demo(result: DemoDocument) -> None:
    """Print what the demo proved and where to look on."""
    out = console()
    tiers = ", ".join(f"{name} {'ok' if passed else 'FAILED'}" for name, passed in result.validation.tiers.items())
    rows = [
        (
            "moved",
            f"{result.records_target:,} of {result.records_source:,} records, {result.source} to {result.target}",
        ),
        ("speed", f"{result.records_per_second:,.0f} records/s, {duration(result.seconds)} in all"),
        ("validated", tiers),
    ]
    passed = result.validation.passed
    if result.live is not None:
        live = result.live
        passed = passed and not live.lost
        rows += [
            ("written meanwhile", f"{live.writes:,} times, {live.writes_after_cutover:,} of them to the new side"),
            (
                "longest write",
                f"cutting over {live.cutover_pause_seconds:.2f} s, going back {live.reverse_pause_seconds:.2f} s",
            ),
            ("lost", f"{live.lost:,} of them"),
        ]
    rows.append(("home", result.home))
    out.print(_facts(rows, Text.assemble((result.migration_id, "bold"), "  ", _verdict(passed))))


def _table(*columns: str | tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        name, side = (column, "left") if isinstance(column, str) else column
        numeric = side == "right"
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    return table


def _facts(rows: Iterable[tuple[str, str]], title: Text) -> Group:
    """A title and, below it, names with their values."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, max_width=24, overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return Group(title, table)


def _place(endpoint: EndpointDocument) -> str:
    return f"{endpoint.type} '{endpoint.collection}' at {endpoint.address}"


def _status(status: str) -> Text:
    return Text(status.replace("_", " "), style=_STATUS_STYLE.get(status, ""))


def _verdict(passed: bool) -> Text:
    return Text("passed", style="green") if passed else Text("FAILED", style="red")


def _grades(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {grade}" for grade, count in counts.items() if count) or "nothing to map"


def _partitions(total: int, done: int, running: int, failed: int) -> str:
    others = [f"{count} {name}" for count, name in ((running, "running"), (failed, "failed")) if count]
    return ", ".join([f"{done:,} of {total:,} done", *others])


def _validation(status: Status) -> str:
    found = status.validation
    at = "" if found.at is None else f", {found.at:%Y-%m-%d %H:%M:%S} UTC"
    if found.tier == "repair":
        return f"none since the repair of {found.checked or 0:,} listed records, {found.mismatched or 0:,} left{at}"
    verdict = "passed" if found.passed else "FAILED"
    return f"{verdict} ({found.tier}): {found.checked or 0:,} checked, {found.mismatched or 0:,} wrong{at}"


def _record(name: str, place: RecordPlace) -> Group:
    found = Text("found", style="green") if place.found else Text("not there", style="yellow")
    scope = "" if place.scope is None else f" in '{place.scope}'"
    where = f"  {place.type} '{place.collection}'{scope}  id {place.id or '-'}  "
    payload = place.payload or {}
    rows = [(key, json.dumps(value, ensure_ascii=False, default=str)) for key, value in payload.items()]
    return _facts(rows, Text.assemble((name, "bold"), where, found))


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
