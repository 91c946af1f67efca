"""Checks answers from memory: those of `status`, no older than allowed, for many threads, in bounded memory."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from vectormigrate_dagster.config import TransferConfig
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.errors import ConfigurationError, StorageFailed
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import Status
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import list_migrations, status
from vectormigrate_dagster.services.warm import MAX_AGE_SECONDS, Reader
from vectormigrate_dagster_tests.harness import ID, Workplace, until
from vectormigrate_dagster_tests.sidecar.guards.asking import Clock


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, small_source: Endpoint) -> Workplace:
    """A planned migration, and one of the same file that was never planned."""
    place = Workplace.make(
        tmp_path_factory.mktemp("planned"), small_source, "milvus", transfer={"partition_records": 100}
    )
    plan(Context(place.migrations, place.home), ID)
    (place.migrations / "other.yaml").write_text((place.migrations / f"{ID}.yaml").read_text())
    return place


@pytest.fixture
def context(planned: Workplace, tmp_path: Path) -> Context:
    """A copy of it, to be changed."""
    copy = tmp_path / "copy"
    shutil.copytree(planned.folder, copy)
    return Context(copy / planned.migrations.name, copy / planned.home.name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(context: Context, clock: Clock) -> Iterator[Reader]:
    with Reader(context, clock=clock) as reader:
        yield reader


def record(context: Context, number: int, acknowledged: int) -> None:
    """Another process tells that a partition is further."""
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        planned = log.require_summary()
        state = PartitionState(plan=planned.digest, state="stopped", run_id="run", acknowledged=acknowledged)
        log.record(planned.keys[number], state)


def told(document: Any) -> dict[str, Any]:
    """A document without the age, which grows."""
    found: dict[str, Any] = document.model_dump(exclude={"stale_seconds"})
    return found


def test_answers_are_those_of_status_and_no_older_than_allowed(context: Context, reader: Reader, clock: Clock) -> None:
    assert told(reader.status(ID)) == told(status(context, ID))
    record(context, 0, 10)
    assert reader.status(ID).progress.migrated_records == 0  # from memory
    clock.pass_by(MAX_AGE_SECONDS)
    assert told(reader.status(ID)) == told(status(context, ID))
    record(context, 0, 20)
    record(context, 1, 5)
    clock.pass_by(MAX_AGE_SECONDS)
    assert reader.status(ID).progress.migrated_records == 25
    assert reader.statuses()[0] is reader.status(ID)


def test_the_list_is_that_of_status(context: Context, reader: Reader) -> None:
    (context.migrations / "broken.yaml").write_text("source: 1\n")
    record(context, 0, 10)
    for options in (
        {},
        {"status": "stopped"},
        {"limit": 1, "offset": 1, "sort_by": "migration_id", "sort_order": "asc"},
    ):
        assert reader.list_migrations(**options) == list_migrations(context, **options)  # type: ignore[arg-type]
    assert [found.migration_id for found in reader.statuses()] == [ID, "other"]


def test_a_new_plan_is_noticed(context: Context, reader: Reader, clock: Clock) -> None:
    record(context, 0, 10)
    assert reader.status(ID).status == "stopped"
    plan(context, ID, replan=True, adopt=True)
    clock.pass_by(MAX_AGE_SECONDS)
    assert told(reader.status(ID)) == told(status(context, ID))
    assert reader.status(ID).status == "planned"


def test_a_state_that_was_wiped_is_forgotten(context: Context, reader: Reader, clock: Clock) -> None:
    record(context, 0, 10)
    assert reader.status(ID).progress.migrated_records == 10
    with context.instance() as instance:
        instance.wipe_assets([names.state_asset(ID)])
    clock.pass_by(MAX_AGE_SECONDS)
    assert reader.status(ID).progress.migrated_records == 0


def test_files_that_change_come_and_go_are_followed_at_once(context: Context, reader: Reader) -> None:
    assert reader.status("other").status == "not_started"
    assert set(reader._known) == {"other"}
    other = context.migrations / "other.yaml"
    (context.migrations / "third.yaml").write_text(other.read_text().replace("target.db", "third.db"))
    assert reader.status("third").target.address.endswith("third.db")
    other.write_text(other.read_text().replace("target.db", "elsewhere.db"))
    assert reader.status("other").target.address.endswith("elsewhere.db")
    other.unlink()
    with pytest.raises(ConfigurationError, match="there is no migration 'other'"):
        reader.status("other")
    assert reader.list_migrations().total == 2
    assert "other" not in reader._known


def test_ids_that_nobody_has_configured_are_not_remembered(reader: Reader) -> None:
    for number in range(100):
        with pytest.raises(ConfigurationError):
            reader.status(f"unknown-{number}")
    for wrong in ("", "../other", "a" * 1000, "\x00", "other.yaml"):
        with pytest.raises(ConfigurationError):
            reader.status(wrong)
    assert len(reader._known) == 0


def test_many_threads_ask_and_one_looks(context: Context, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    refresh = MigrationLog.refresh

    def counted(log: MigrationLog) -> None:
        looks.append(threading.current_thread().name)
        refresh(log)

    monkeypatch.setattr(MigrationLog, "refresh", counted)
    with Reader(context, clock=clock) as reader, ThreadPoolExecutor(8) as threads:
        for turn in range(3):
            record(context, 0, 10 + turn)
            looks.clear()
            answers = list(threads.map(reader.status, [ID] * 40))
            assert {answer.progress.migrated_records for answer in answers} == {10 + turn}
            assert len(looks) == 1
            clock.pass_by(MAX_AGE_SECONDS)


def test_an_answer_is_renewed_while_it_is_given(
    context: Context, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a look at the storage but who asks first, or when the last answer is too old."""
    refresh, go_on, begun = MigrationLog.refresh, threading.Event(), threading.Event()
    with Reader(context, clock=clock) as reader:
        first = reader.status(ID)

        def hanging(log: MigrationLog) -> None:
            begun.set()
            go_on.wait()
            refresh(log)

        monkeypatch.setattr(MigrationLog, "refresh", hanging)
        record(context, 0, 10)  # which reads nothing
        begun.clear()
        clock.pass_by(MAX_AGE_SECONDS / 2)
        threads = threading.active_count()
        for _ in range(5):
            assert reader.status(ID) is first
        assert begun.wait(240)
        assert threading.active_count() == threads + 1
        go_on.set()
        until(lambda: reader.status(ID).progress.migrated_records == 10)


def test_a_renewal_that_fails_is_met_by_who_asks_when_the_answer_is_too_old(
    context: Context, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class GaveUp(Exception):
        """As that of dagster_postgres, which hides what it is about."""

    def refuse(*_: Any, **__: Any) -> None:
        raise GaveUp from OperationalError("select 1", {}, Exception("connection refused"))

    with Reader(context, clock=clock) as reader:
        first = reader.status(ID)
        monkeypatch.setattr(dg.DagsterInstance, "get_latest_storage_id_by_partition", refuse)
        clock.pass_by(MAX_AGE_SECONDS / 2)
        assert reader.status(ID) is first
        until(lambda: "could not be renewed: StorageFailed" in caplog.text)
        clock.pass_by(MAX_AGE_SECONDS / 2)
        with pytest.raises(StorageFailed, match="connection refused"):
            reader.status(ID)
        reader.close()
        monkeypatch.setattr(dg.DagsterInstance, "from_config", refuse)
        with pytest.raises(StorageFailed, match="connection refused"):
            reader.status(ID)


def test_a_running_migration_is_followed(tmp_path: Path, small_source: Endpoint) -> None:
    """A load in another thread, and its state as a sidecar tells it meanwhile."""
    place = Workplace.make(
        tmp_path, small_source, "qdrant", transfer={"rate_limit": 150, "batch_size": 10, "checkpoint_seconds": 0}
    )
    context = Context(place.migrations, place.home)
    plan(context, ID)
    told: list[Status] = []
    with Reader(context, max_age=0.2) as reader, ThreadPoolExecutor(1) as threads:
        load = threads.submit(migrate, context, ID)
        while not load.done():
            told.append(reader.status(ID))
            time.sleep(0.02)
        load.result()
        until(lambda: reader.status(ID).status == "completed")
    moved = [each.progress.migrated_records for each in told if each.status == "in_progress"]
    assert moved == sorted(moved)
    assert any(0 < records < 300 for records in moved)


def test_running_work_is_told_within_ten_seconds() -> None:
    """It records its state so often, and an answer is so old at most."""
    assert TransferConfig().checkpoint_seconds + MAX_AGE_SECONDS <= 10


def test_a_closed_reader_opens_again(reader: Reader) -> None:
    before = reader.status(ID)
    reader.close()
    reader.close()
    assert told(reader.status(ID)) == told(before)
