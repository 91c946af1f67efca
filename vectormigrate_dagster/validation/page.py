"""The report of a validation as one page that needs nothing else: no network, no script, light and dark.

Ids, payload values and names come from databases, so each text is escaped where it enters the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from vectormigrate_dagster.validation import plots
from vectormigrate_dagster.validation.figures import Answer, SearchGroup, Side, WorstQuery
from vectormigrate_dagster.validation.report import TierResult, ValidationReport

_TITLES = {
    "count": "Count",
    "ids": "Ids",
    "records": "Records",
    "search": "Search",
}
_BESIDE = {"better": "better than the source", "alike": "as good as the source", "worse": "worse than the source"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was validated.

    Args:
        source, target: the two collections, for people; never secret.
    """

    migration: str
    source: str
    target: str


def report_json(subject: Subject, report: ValidationReport) -> dict[str, Any]:
    """The whole report as JSON values; its digest can be checked by `ValidationReport.compute_digest`."""
    return {**asdict(subject), "report": report.to_json()}


def report_page(subject: Subject, report: ValidationReport) -> str:
    """The whole report as an HTML page."""
    style = files("vectormigrate_dagster").joinpath("data", "report.css").read_text(encoding="utf-8")
    verdict = "passed" if report.passed else "failed"
    body = [
        _head(subject, report, verdict),
        '<section class="tiers">',
        *map(_card, report.tiers),
        "</section>",
        *(_section("Not looked at", _list(report.skipped)) for _ in [0] if report.skipped),
        *(part for tier in report.tiers for part in _details(tier)),
        _foot(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Validation of {escape(subject.migration)}: {verdict}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(subject: Subject, report: ValidationReport, verdict: str) -> str:
    return (
        f'<header class="{verdict}"><p class="verdict">{verdict}</p><h1>{escape(subject.migration)}</h1>'
        f'<p class="way"><span>{escape(subject.source)}</span><span class="arrow">→</span>'
        f"<span>{escape(subject.target)}</span></p>"
        f"<p>{_circumstances(report)}</p>{_way_out(subject, report)}</header>"
    )


def _circumstances(report: ValidationReport) -> str:
    """How much was looked at, when, and against which plan."""
    parts = ["every record" if report.looked_at == "full" else "a sample of the records"]
    parts += [] if report.seed is None else [f"random choices from seed {report.seed}"]
    parts += [] if report.ended_at is None else [_time(report.ended_at)]
    parts += [f"in {report.seconds:,.1f} s"]
    parts += [] if report.plan is None else [f"against plan <code>{escape(report.plan[:12])}</code>"]
    return ", ".join(parts)


def _way_out(subject: Subject, report: ValidationReport) -> str:
    """Where everything that is wrong is listed, and what mends it."""
    if report.mismatches is None:
        return ""
    return (
        f"<p>Everything that is wrong is listed in <code>{escape(report.mismatches)}</code>; "
        f"<code>vectormigrate repair {escape(subject.migration)}</code> rewrites those records.</p>"
    )


def _card(tier: TierResult) -> str:
    verdict = "passed" if tier.passed else "failed"
    numbers = [("checked", tier.checked), ("differ", tier.mismatched), ("missing", tier.missing), ("extra", tier.extra)]
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{value:,}</dd></div>" for name, value in numbers if value or name == "checked"
    )
    title = escape(_TITLES.get(tier.tier, tier.tier))
    return (
        f'<article class="card {verdict}"><h2>{title}<span class="badge">{verdict}</span></h2>'
        f"<dl>{shown}</dl><p>{escape(tier.statement)}</p></article>"
    )


def _details(tier: TierResult) -> Iterable[str]:
    if tier.counts:
        yield _section("What differs, by vector and field", _counts(tier))
    if tier.differences:
        yield _section(f"First findings of the {tier.tier} tier", _differences(tier))
    if tier.groups:
        yield _section("Search against exact search", _groups(tier))
    if tier.worst_queries:
        yield _section("The worst queries", "".join(map(_worst, tier.worst_queries)))
    if tier.skipped:
        yield _section("Not searched", _list(tier.skipped))
    if tier.histograms or tier.projection is not None:
        yield _section("Vectors of a sample, read back", f'<div class="plots">{"".join(_pictures(tier))}</div>')


def _pictures(tier: TierResult) -> Iterable[str]:
    for histogram in tier.histograms:
        what = f"vector '{histogram.what}': " if histogram.what else ""
        note = f"{what}1 - cosine between the promised vector and the one that the target holds"
        yield _plot(plots.histogram(histogram), note)
    if tier.projection is not None:
        note = (
            '<b class="source">source</b> as rings, <b class="target">target</b> as dots: '
            f"{len(tier.projection.points):,} records on the plane of their two main directions, "
            f"which shows {tier.projection.explained:.0%} of the variance"
        )
        yield _plot(plots.projection(tier.projection), note, html=True)


def _differences(tier: TierResult) -> str:
    head = ["id", "where", "expected", "found"]
    rows = [[one.id, one.where, one.expected, one.actual] for one in tier.differences]
    if any(one.scope is not None for one in tier.differences):
        head = ["scope", *head]
        rows = [[one.scope or "", *row] for one, row in zip(tier.differences, rows, strict=True)]
    return _table(head, rows)


def _counts(tier: TierResult) -> str:
    most = max(tier.counts.values())
    rows = "".join(
        f'<tr><td>{escape(where)}</td><td class="number">{count:,}</td>'
        f'<td class="wide"><span class="bar" style="width:{100 * count / most:.1f}%"></span></td></tr>'
        for where, count in tier.counts.items()
    )
    head = '<tr><th>where</th><th class="number">records</th><th></th></tr>'
    return f'<div class="scroll"><table>{head}{rows}</table></div>'


def _groups(tier: TierResult) -> str:
    head = ["asked", "queries", "overlap", "95 % interval", "worst", "rank-biased", "scores right", "beside the source"]
    rows = [_group_row(group) for group in tier.groups]
    demanded = tier.measures.get("min_overlap")
    legend = '<b class="target">target</b>, <b class="source">source</b> dashed'
    legend += "" if demanded is None else f', <b class="bad">demanded</b> {demanded:g}'
    curves = "".join(
        _plot(plots.overlap_curve(group, min_overlap=demanded), f"{escape(group.name)}: {legend}", html=True)
        for group in tier.groups
    )
    return f'{_table(head, rows)}<div class="plots">{curves}</div>'


def _group_row(group: SearchGroup) -> list[str]:
    side: Side = group.target
    beside = "" if group.source is None else f"{_BESIDE[group.compared or 'alike']} ({group.source.overlap:.4f})"
    return [
        f"{group.name}, {group.metric}, k = {group.k}",
        f"{group.queries:,}",
        f"{side.overlap:.4f}",
        f"{side.low:.4f} to {side.high:.4f}",
        f"{side.worst:.2f}",
        f"{side.rbo:.4f}",
        "" if side.scores_agree is None else f"{side.scores_agree:.1%}",
        beside,
    ]


def _worst(query: WorstQuery) -> str:
    facts = [f"vector '{query.vector}'", *([f"scope '{query.scope}'"] if query.scope is not None else [])]
    facts += [query.where] if query.where is not None else []
    sides = [("truth", query.truth), ("source", query.source), ("target", query.target)]
    lists = "".join(_answers(name, answers) for name, answers in sides if answers or name != "source")
    return (
        f'<article class="query"><h3>{escape(query.query)} <small>{escape(", ".join(facts))}; '
        f'overlap {query.overlap:.2f}</small></h3><div class="sides">{lists}</div></article>'
    )


def _answers(name: str, answers: Sequence[Answer]) -> str:
    items = "".join(
        f'<li class="{"right" if one.right else "wrong"}"><code>{escape(one.id)}</code>'
        f"<span>{'' if one.score is None else f'{one.score:.4f}'}</span></li>"
        for one in answers
    )
    return f"<div><h4>{name}</h4><ol>{items or '<li>no answer</li>'}</ol></div>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _plot(svg: str, note: str, *, html: bool = False) -> str:
    return f"<figure>{svg}<figcaption>{note if html else escape(note)}</figcaption></figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="broad"><tr>{titles}</tr>{cells}</table></div>'


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _foot(report: ValidationReport) -> str:
    digest = f" Digest of the data beside this page: <code>{escape(report.digest)}</code>" if report.digest else ""
    return (
        "<footer>"
        "<p>Overlap: share of the k answers that are as near as the k nearest of all records, which were found by "
        "comparing each query with every vector. Rank-biased overlap (Webber, Moffat and Zobel, 2010, p = 0.9) weighs "
        f"the first ranks most.{digest}</p></footer>"
    )


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
