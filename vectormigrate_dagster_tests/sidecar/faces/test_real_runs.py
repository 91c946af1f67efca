"""Checks that tools drive real Dagster runs: a webserver, a daemon and code servers, as `vectormigrate ui` has them.

A migration is started, stopped on its way, started again, validated and, after a confirmation, rolled back, by the
protocol alone; its runs carry the caller's masked name. `VECTORMIGRATE_SIDECAR_RUNS=1` does all of that; else it is
only started.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.services.control import throttle
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.keys import Key
from vectormigrate_dagster_tests.harness import COLLECTION, ID, NOTHING, Records, Workplace, differences, fill, until
from vectormigrate_dagster_tests.sidecar.faces.dagster_processes import dagster
from vectormigrate_dagster_tests.sidecar.faces.migrated import READER, context_of, settings
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, Served, serving

ALL = "VECTORMIGRATE_SIDECAR_RUNS" in os.environ
RECORDS = Records.of(400)
SECONDS = 240
MASKED = Key.of(KEY, name="tests", scope="write").masked


@pytest.fixture
def slow(tmp_path: Path) -> Workplace:
    """One partition of 400 records, twenty a second."""
    source = Endpoint(type="milvus", path=tmp_path / "source.db", collection=COLLECTION)
    fill(source, RECORDS)
    target = Endpoint(type="qdrant", path=tmp_path / "target", collection=COLLECTION)
    transfer = {"rate_limit": 20, "batch_size": 10, "checkpoint_seconds": 0}
    return Workplace.make(tmp_path / "place", source, target, transfer=transfer)


@pytest.fixture
def server(slow: Workplace, free_tcp_port: int) -> Iterator[Served]:
    """A sidecar with tools that write."""
    with dagster(slow, free_tcp_port) as url:
        app = create_app(context_of(slow), settings(enable_writes=True, webserver_url=url))
        with serving(app) as served:
            yield served


def test_start_launches_a_run_that_carries_the_callers_name(server: Served, slow: Workplace) -> None:
    began = server.call("start_migration", migration_id=ID)

    assert began["outcome"] == "launched"
    (number,) = began["runs"]
    with open_home(slow.home) as instance:

        def planned() -> dg.DagsterRun:
            run = instance.get_run_by_id(number)
            assert run is not None
            return run

        until(lambda: planned().is_finished, seconds=SECONDS)
        assert planned().is_success
        assert (planned().job_name, planned().tags[names.PRINCIPAL_TAG]) == (f"{ID}_plan", MASKED)
    assert slow.planned()


@pytest.mark.skipif(not ALL, reason="takes minutes; set VECTORMIGRATE_SIDECAR_RUNS")
@pytest.mark.timeout(600)
def test_start_stop_resume_validate_and_roll_back(server: Served, slow: Workplace) -> None:
    def status() -> dict[str, Any]:
        return dict(server.call("migration_status", migration_id=ID))

    began = server.call("start_migration", migration_id=ID)
    again = server.call("start_migration", migration_id=ID)
    assert (began["outcome"], again["outcome"]) == ("launched", "already_running")
    assert again["runs"] == began["runs"]

    until(lambda: status()["progress"]["migrated_records"] > 0, seconds=SECONDS)
    assert server.call("stop_migration", migration_id=ID)["outcome"] == "stopping"
    until(lambda: status()["status"] == "stopped", seconds=SECONDS)
    assert 0 < status()["progress"]["migrated_records"] < len(RECORDS)

    throttle(context_of(slow), ID, rate=None)
    assert server.call("start_migration", migration_id=ID)["outcome"] == "launched"
    until(lambda: status()["status"] == "completed", seconds=SECONDS)
    assert status()["batches_processed"] > 0

    validation = server.call("validate_migration", migration_id=ID, sample_size=100.0)
    until(lambda: status()["validation"]["passed"] is not None, seconds=SECONDS)
    assert status()["validation"]["passed"]
    assert server.call("start_migration", migration_id=ID)["outcome"] == "nothing_to_do"
    assert differences(slow.target, RECORDS) == NOTHING

    shown = server.call("rollback_migration", migration_id=ID)
    assert shown["outcome"] == "to_confirm"
    token = shown["confirmation"]["token"]
    done = server.call("rollback_migration", migration_id=ID, confirmation_token=token)
    assert (done["outcome"], bool(done["backfill"])) == ("launched", True)

    with open_home(slow.home) as instance:
        runs = [record.dagster_run for record in instance.get_run_records()]
    assert {run.tags[names.PRINCIPAL_TAG] for run in runs} == {MASKED}
    assert {run.job_name for run in runs} >= {f"{ID}_plan", ID, f"{ID}_validate"}
    (checked,) = (run for run in runs if run.run_id == validation["runs"][0])
    assert checked.status is dg.DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("tool", ["start_migration", "stop_migration", "validate_migration", "rollback_migration"])
def test_who_may_only_read_changes_nothing(migrated: Workplace, tool: str) -> None:
    app = create_app(context_of(migrated), settings(enable_writes=True, webserver_url="http://127.0.0.1:9"))
    with serving(app) as served:
        served.key = READER

        error = served.error(tool, migration_id=ID)

    assert error["code"] == -32011
    assert "may only read" in error["message"]


def test_a_webserver_that_is_not_there_is_named_without_its_password(migrated: Workplace) -> None:
    app = create_app(context_of(migrated), settings(enable_writes=True, webserver_url="http://me:hunter2@127.0.0.1:9"))
    with serving(app) as served:
        error = served.error("validate_migration", migration_id=ID)

    assert error["code"] == -32014
    assert "http://127.0.0.1:9" in error["message"]
    assert "hunter2" not in str(error)


def test_without_writes_there_are_no_tools_that_write(served: Served) -> None:
    for tool in ("start_migration", "stop_migration", "validate_migration", "rollback_migration"):
        assert served.error(tool, migration_id=ID)["code"] == -32601
    assert served.post("/v1/changes", {"migration_id": ID, "ids": ["1"]}).status_code == 404
