"""Contract of the report page: whole, self-contained, and deaf to what ids and values of databases say."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np

from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.validation import ValidationReport, plots
from vectormigrate_dagster.validation.figures import Answer, Histogram, WorstQuery
from vectormigrate_dagster.validation.page import Subject, report_json, report_page
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.validation.searches import bend, coloured
from vectormigrate_dagster_tests.validation.support import change_payload, change_vector, full, searching

HOSTILE = "<script>alert('x')</script>\"'&<img src=//evil.example onerror=x>"
SUBJECT = Subject(migration="m", source="qdrant 'a'", target="milvus 'b'")
WHEN = datetime(2026, 11, 22, 8, tzinfo=UTC)


class Page(HTMLParser):
    """Collects tags, attributes and texts, and checks that tags are closed in order."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def sealed(report: ValidationReport) -> ValidationReport:
    return report.sealed(
        plan="ab" * 32, seed=7, began_at=WHEN, ended_at=WHEN, looked_at="full", mismatches=f"/home/{HOSTILE}"
    )


def spoiled() -> ValidationReport:
    """A report with findings of every kind, and hostile texts wherever a database could put them."""
    source, target = coloured()
    change_vector(target, 3, lambda values: -values)
    change_payload(target, 4, name=HOSTILE)
    change_payload(target, 5, **{HOSTILE: 1})
    target.delete(IdColumn.of(IdKind.U64, [6]))
    half = MemoryDatabase("half", schema=target.schema)
    for key in range(0, 200, 2):
        if key in target.ids():
            half.put(target.get(key))
    bend(target, lambda search: half.search)
    report = full(source, target, search=searching())
    search = report.tier("search")
    answer = Answer(id=HOSTILE, score=None, right=False)
    worst = WorstQuery(
        query=HOSTILE, vector=HOSTILE, scope=HOSTILE, where=HOSTILE, overlap=0, truth=(answer,), source=(), target=()
    )
    changes = {"worst_queries": (worst, *search.worst_queries), "skipped": (HOSTILE,)}
    tiers = [tier.model_copy(update=changes) if tier is search else tier for tier in report.tiers]
    return sealed(ValidationReport.of(*tiers, seconds=1))


def test_the_page_says_what_was_checked_when_and_against_which_plan() -> None:
    report = sealed(full(*coloured(), search=searching()))
    page = Page(report_page(SUBJECT, report))
    for said in ("passed", "qdrant 'a'", "every record", "2026-11-22T08:00:00Z", "ab" * 6, "seed 7", report.digest):
        assert said in page.text
    assert all(tier.statement in page.text for tier in report.tiers)
    assert page.tags.count("svg") == 4  # two overlap curves, a histogram and a projection
    assert ("class", "card failed") not in page.attributes


def test_the_page_names_everything_that_is_wrong() -> None:
    report = spoiled()
    page = Page(report_page(SUBJECT, report))
    assert f"/home/{HOSTILE}" in page.text
    assert "vectormigrate repair m" in page.text
    for tier in report.tiers:
        assert tier.statement in page.text
        assert all(found.id in page.text and found.where in page.text for found in tier.differences)
    for query in report.tier("search").worst_queries:
        assert query.query in page.text
        assert all(answer.id in page.text for answer in query.target)


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    for text in (report_page(SUBJECT, spoiled()), report_page(SUBJECT, sealed(full(*coloured(), search=searching())))):
        page = Page(text)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
        addresses = [value for name, value in page.attributes if name in ("src", "href", "action", "srcset", "data")]
        assert addresses == []
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
        assert style is not None
        assert "url(" not in style[1]
        assert "@import" not in style[1]
        assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_texts_are_shown_and_not_obeyed() -> None:
    text = report_page(Subject(migration=HOSTILE, source=HOSTILE, target=HOSTILE), spoiled())
    assert "<script" not in text
    assert "<img" not in text
    page = Page(text)
    assert page.text.count(HOSTILE) >= 10
    assert HOSTILE in page.text


def test_the_digest_of_the_data_can_be_checked() -> None:
    report = spoiled()
    data = json.loads(json.dumps(report_json(SUBJECT, report)))
    assert (data["migration"], data["source"], data["target"]) == ("m", "qdrant 'a'", "milvus 'b'")
    read = ValidationReport.model_validate(data["report"])
    assert read == report
    assert read.compute_digest() == data["report"]["digest"] == report.digest
    data["report"]["tiers"][0]["passed"] = True
    assert ValidationReport.model_validate(data["report"]).compute_digest() != report.digest


def test_a_report_without_searches_and_circumstances_is_a_page_too() -> None:
    report = full(*coloured(10), search=None).model_copy(update={"skipped": ("vector 'v' was not searched because",)})
    page = Page(report_page(SUBJECT, report))
    assert "vector 'v' was not searched because" in page.text
    assert "svg" not in page.tags


def test_plots_are_whole_and_escape_names() -> None:
    search = spoiled().tier("search")
    assert search.projection is not None
    drawn = [plots.overlap_curve(group, min_overlap=0.95) for group in search.groups]
    one = search.groups[0]
    short = one.target.model_copy(update={"curve": (0.0,)})
    drawn.append(plots.overlap_curve(one.model_copy(update={"vector": HOSTILE, "target": short, "source": None})))
    drawn += [plots.projection(search.projection), plots.histogram(search.histograms[0])]
    drawn.append(plots.histogram(Histogram(what=HOSTILE, labels=(HOSTILE,), counts=(0,))))
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert np.isfinite([float(value) for value in root.attrib["viewBox"].split()]).all()
        assert "nan" not in svg
