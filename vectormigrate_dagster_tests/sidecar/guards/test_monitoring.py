"""Checks that dashboard, alerts and docs name metrics that there are, with labels and words that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from vectormigrate_dagster.services.models import LiveStatus, Status
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.metrics import exposition
from vectormigrate_dagster_tests.sidecar.guards.standing import halfway

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"vectormigrate_[a-z_]+")
PANELS = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
EXPRESSIONS = {
    **{f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
}


class Live(Reader):
    """A reader of a migration that has everything that a status can have."""

    def statuses(self) -> tuple[Status, ...]:
        live = LiveStatus(lag_records=3, lag_seconds=4.5, at=datetime.now(UTC))
        return tuple(found.model_copy(update={"eta_seconds": 9.0, "live": live}) for found in super().statuses())


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory, small_source: Any) -> dict[str, list[dict[str, str]]]:
    """The labels of each sample of a page that has everything, by name."""
    counters = Counters()
    counters.count("/", 500, 0.1)
    for reason in ("wrong_key", "guessing"):
        counters.refuse(reason)
    with Live(halfway(tmp_path_factory.mktemp("exposed"), small_source)) as reader:
        page = exposition(reader, counters).decode()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def uses(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric of a query with what it demands of labels."""
    for found in re.finditer(r"(vectormigrate_[a-z_]+)(?:\{([^}]*)\})?", expression):
        demands = dict(re.findall(r'(\w+)=~?"([^"]*)"', found[2] or ""))
        yield found[1], {label: value for label, value in demands.items() if value != "$migration"}


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_of_a_query_is_there_with_such_labels(
    where: str, exposed: dict[str, list[dict[str, str]]]
) -> None:
    expression = EXPRESSIONS[where]
    for name, demands in uses(expression):
        assert name in exposed, f"there is no metric '{name}'"
        for label, value in demands.items():
            assert any(re.fullmatch(value, labels.get(label, "")) for labels in exposed[name]), (name, label, value)
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= exposed[name][0].keys()
    assert NAME.search(expression) or expression.startswith("up{")


def test_the_docs_list_every_metric_and_no_other(exposed: dict[str, list[dict[str, str]]]) -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    listed = {row[1]: row[2] for row in re.finditer(r"^\| `(vectormigrate_\w+)` \|([^|]*)\|", text, re.MULTILINE)}

    assert listed.keys() == exposed.keys()
    for name, labels in listed.items():
        assert set(re.findall(r"`(\w+)`", labels)) == exposed[name][0].keys(), name


def test_every_metric_of_migrations_is_on_the_dashboard(exposed: dict[str, list[dict[str, str]]]) -> None:
    shown = {name for where, text in EXPRESSIONS.items() if where.startswith("panel") for name, _ in uses(text)}
    assert shown == exposed.keys()


def test_the_dashboard_asks_which_data_source() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_alerts_say_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
