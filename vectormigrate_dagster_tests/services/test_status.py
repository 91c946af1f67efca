"""Checks `status` and the list of migrations: filters, order, pages; no database is ever opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.services import control
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import list_migrations, status
from vectormigrate_dagster_tests.harness import ID, Workplace
from vectormigrate_dagster_tests.services.conftest import context_of


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can open a database."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"{args} was opened")

    for name in ("open_source", "open_target", "keep_open"):
        monkeypatch.setattr(databases, name, refuse)
    monkeypatch.setattr(databases.Database, "__init__", refuse)


@pytest.fixture(scope="module")
def several(finished: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Six migrations, two planned (b, then a), one done, and a file that is none."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(finished.home, folder / "home")
    shutil.copytree(finished.migrations, folder / "migrations")
    text = (finished.migrations / f"{ID}.yaml").read_text()
    for name in ("a", "b", "c", "d", "e"):
        (folder / "migrations" / f"{name}.yaml").write_text(text.replace("target.db", f"{name}.db"))
    (folder / "migrations" / "broken.yaml").write_text("source: 1\n")
    context = Context(folder / "migrations", folder / "home")
    for name in ("b", "a"):
        plan(context, name)
    return context


def test_what_is_done_is_told_without_opening_anything(finished: Workplace, closed: None) -> None:
    document = status(context_of(finished), ID)
    assert document.status == "completed"
    assert document.progress.model_dump() == {"total_records": 300, "migrated_records": 300, "percentage": 100.0}
    assert (document.partitions.failed, document.partitions.running) == (0, 0)
    assert document.partitions.done == document.partitions.total >= 3
    assert document.started_at is not None
    assert document.ended_at is not None
    assert document.started_at <= document.ended_at
    assert len(set(document.runs)) == len(document.runs) > document.partitions.total
    assert document.loss.exact > 0
    assert document.last_error is None


def test_what_was_never_planned_is_not_started(context: Context, closed: None) -> None:
    document = status(context, ID)
    assert (document.status, document.phase, document.partitions.total) == ("not_started", "plan", 0)


def names(context: Context, **options: object) -> list[str]:
    return [item.migration_id for item in list_migrations(context, **options).migrations]  # type: ignore[arg-type]


def test_filters_order_and_pages(several: Context, closed: None) -> None:
    assert names(several) == ["a", "b", ID, "e", "d", "c"]
    assert names(several, sort_order="asc") == ["c", "d", "e", ID, "b", "a"]
    assert names(several, sort_by="migration_id", sort_order="asc") == ["a", "b", "c", "d", "e", ID]
    assert names(several, sort_by="status", sort_order="asc") == [ID, "c", "d", "e", "a", "b"]
    assert names(several, status="planned", sort_by="migration_id") == ["b", "a"]
    assert names(several, status="failed") == []
    found = list_migrations(several, limit=2, offset=3, sort_by="migration_id", sort_order="asc")
    assert [item.migration_id for item in found.migrations] == ["d", "e"]
    assert (found.total, found.limit, found.offset) == (6, 2, 3)
    assert list_migrations(several, offset=6).migrations == ()
    assert list_migrations(several, status="planned", limit=1).total == 2


def test_the_list_tells_progress_and_what_is_broken(several: Context, closed: None) -> None:
    found = list_migrations(several, status="completed")
    (done,) = found.migrations
    assert done.progress.model_dump() == {"total": 300, "current": 300, "percent": 100.0}
    assert done.created_at is not None
    assert [Path(file.path).name for file in found.broken] == ["broken.yaml"]


def test_a_folder_that_is_empty_lists_nothing(tmp_path: Path, closed: None) -> None:
    (tmp_path / "migrations").mkdir()
    assert list_migrations(Context(tmp_path / "migrations", tmp_path / "home")).total == 0


########
# Control
########


def test_stop_and_throttle_are_recorded_and_open_nothing(several: Context, closed: None) -> None:
    assert control.throttle(several, "a", rate=12.5).status == "planned"
    control.stop(several, "a")
    with several.instance() as instance:
        log = MigrationLog(instance, "a")
        log.refresh()
        asked = log.control()
    assert (asked.rate_limit, asked.rate_limit_set) == (12.5, True)
    assert asked.stop_requested_at is not None
    control.throttle(several, "a", rate=None)
    with several.instance() as instance:
        log = MigrationLog(instance, "a")
        log.refresh()
        assert (log.control().rate_limit, log.control().rate_limit_set) == (None, True)
        assert log.control().stop_requested_at == asked.stop_requested_at
