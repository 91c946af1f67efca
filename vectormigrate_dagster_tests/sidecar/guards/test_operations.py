"""Checks what operators ask: alive, ready within a time and from memory, figures from Dagster's storage."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar import operations as room
from vectormigrate_dagster.sidecar.counters import Counters
from vectormigrate_dagster.sidecar.guards import guards
from vectormigrate_dagster.sidecar.operations import KEPT_SECONDS, operations
from vectormigrate_dagster.sidecar.settings import Settings
from vectormigrate_dagster_tests.harness import ID
from vectormigrate_dagster_tests.sidecar.guards.asking import Asker, Clock, running
from vectormigrate_dagster_tests.sidecar.guards.standing import ACKNOWLEDGED, REFUSED, VANISHED, halfway

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Context:
    return halfway(tmp_path_factory.mktemp("halfway"), small_source)


@pytest.fixture(scope="module")
def reader(context: Context) -> Iterator[Reader]:
    with Reader(context) as reader:
        yield reader


def operated(reader: Reader, clock: Clock, counters: Counters | None = None) -> Starlette:
    counters = counters or Counters()
    return Starlette(routes=operations(reader, counters, clock=clock), middleware=guards(Settings(), counters))


def samples(ask: Asker) -> Samples:
    page = ask("GET", "/metrics")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(page.body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


class Unwell(Reader):
    """A reader whose storage fails, or hangs until it is let go."""

    def __init__(self, context: Context, *, hangs: bool) -> None:
        super().__init__(context)
        self.go_on = threading.Event()
        self.asked = 0
        self._hangs = hangs

    def _fail(self) -> None:
        self.asked += 1
        if self._hangs:
            self.go_on.wait()
        raise StorageFailed("'postgresql://user:hunter2@db' refused")

    def ask_storage(self) -> None:
        self._fail()

    def statuses(self) -> tuple[Status, ...]:
        self._fail()
        raise AssertionError


def test_alive_and_ready(reader: Reader) -> None:
    with running(operated(reader, Clock())) as ask:
        assert (ask("GET", "/healthz").status, ask("GET", "/readyz").status) == (200, 200)
        assert ask("POST", "/healthz").status == 405


def test_a_storage_that_fails_makes_it_unready_but_not_dead(context: Context) -> None:
    clock, unwell = Clock(), Unwell(context, hangs=False)
    with running(operated(unwell, clock)) as ask:
        assert ask("GET", "/healthz").status == 200
        for _ in range(3):
            found = ask("GET", "/readyz")
            assert (found.status, found.json) == (503, {"status": "storage does not answer"})
        assert unwell.asked == 1  # probes are answered from memory
        clock.pass_by(KEPT_SECONDS)
        ask("GET", "/readyz")
        assert unwell.asked == 2
        figures = samples(ask)
        assert figures["vectormigrate_storage_up", frozenset()] == 0
        assert b"hunter2" not in ask("GET", "/metrics").body


def test_a_storage_that_hangs_costs_one_thread(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STORAGE_SECONDS", 0.05)
    monkeypatch.setattr(room, "SCRAPE_SECONDS", 0.05)
    clock, unwell = Clock(), Unwell(context, hangs=True)
    with running(operated(unwell, clock)) as ask:
        try:
            for _ in range(3):
                assert ask("GET", "/readyz").status == 503
                assert ask("GET", "/metrics").status == 503
                assert ask("GET", "/healthz").status == 200
                clock.pass_by(KEPT_SECONDS)
            assert unwell.asked <= 2  # one for each route, and nobody after them
        finally:
            unwell.go_on.set()


def test_the_figures_of_a_migration_are_those_of_its_status(context: Context, reader: Reader) -> None:
    told = status(context, ID)
    counters = Counters()
    with running(operated(reader, Clock(), counters)) as ask:
        ask("GET", "/healthz")
        ask("GET", "/not-a-route")
        ask("GET", "/healthz", headers=[(b"host", b"evil.example")])
        figures = samples(ask)

    def of(name: str, **labels: str) -> float:
        return figures[f"vectormigrate_{name}", frozenset(labels.items())]

    assert of("migration_source_records", migration=ID) == told.progress.total_records == 300
    assert of("migration_migrated_records", migration=ID) == told.progress.migrated_records == 2 * ACKNOWLEDGED
    assert of("migration_progress_ratio", migration=ID) == pytest.approx(told.progress.percentage / 100)
    assert of("migration_batches", migration=ID) == 8
    assert of("migration_records_per_second", migration=ID) == 0
    partitions = {word: of("migration_partitions", migration=ID, state=word) for word in ("done", "failed", "running")}
    assert partitions == {"done": 1, "failed": 1, "running": 0}
    assert of("migration_partitions", migration=ID, state="waiting") == told.partitions.total - 2
    assert of("migration_unmoved_records", migration=ID, reason="refused") == REFUSED
    assert of("migration_unmoved_records", migration=ID, reason="vanished") == VANISHED
    assert of("migration_status", migration=ID, status="failed") == 1
    assert of("migration_status", migration=ID, status="completed") == 0
    assert of("migration_validation_passed", migration=ID) == 0
    assert of("migration_validated_records", migration=ID) == 80
    assert of("migration_mismatched_records", migration=ID) == 7
    assert of("migration_validation_timestamp_seconds", migration=ID) > 1.7e9
    assert of("migration_state_age_seconds", migration=ID) >= 0
    assert ("vectormigrate_migration_eta_seconds", frozenset({("migration", ID)})) not in figures
    assert ("vectormigrate_migration_lag_seconds", frozenset({("migration", ID)})) not in figures
    assert of("storage_up") == 1
    assert of("broken_files") == 0
    assert of("sidecar_requests_total", route="/healthz", status="200") == 1
    assert of("sidecar_requests_total", route="other", status="404") == 1
    assert of("sidecar_refusals_total", reason="host") == 1


def test_labels_are_ours_whatever_is_asked(reader: Reader) -> None:
    with running(operated(reader, Clock())) as ask:
        before = set(samples(ask))
        for number in range(50):
            ask(f"METHOD{number}", f"/path{number}", key=f"key{number}", body=b'{"method": "x%d"}' % number)
        grown = set(samples(ask)) - before

    assert {name for name, _ in grown} <= {
        "vectormigrate_sidecar_requests_total",
        "vectormigrate_sidecar_request_seconds_total",
    }
    assert len(grown) <= 4
