"""A Qdrant target is not left without an index: whoever comes after a kill, or ends a load for good, puts it back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.defs.jobs import load_job
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.services import migrate as migrating
from vectormigrate_dagster.services.runs import run_job
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import (
    COLLECTION,
    ID,
    NOTHING,
    Process,
    Records,
    Workplace,
    alive,
    differences,
    fill,
    until,
    until_at_work,
    workers_of,
)

RECORDS = Records.of(1500)
FAST = {"partition_records": 300, "batch_size": 100, "checkpoint_seconds": 0.1, "workers": 2}
SLOW = {**FAST, "rate_limit": 400}
THRESHOLD = 10_000
"""Of a collection that names none, on the stand-in as on a server."""


@pytest.fixture
def slow(tmp_path: Path, qdrant_stand_in: QdrantStandIn) -> Workplace:
    """1,500 records of one collection, to be moved to another by two workers in 4 seconds."""
    options = QdrantOptions(grpc_url=qdrant_stand_in.grpc_url)
    source, target = (
        Endpoint(type="qdrant", url=qdrant_stand_in.url, collection=name, options=options)
        for name in (COLLECTION, "copies")
    )
    fill(source, RECORDS)
    return Workplace.make(tmp_path, source, target, transfer=SLOW)


def threshold(place: Workplace) -> int:
    with databases.open_source(place.target) as target:
        found: int = target.describe().settings["optimizer_config"]["indexing_threshold"]
    return found


def loading(place: Workplace) -> Process:
    """A `migrate` with two partitions under way, whose target is not indexed meanwhile."""
    process = place.start("migrate", ID)
    until_at_work(place, process, partitions=2)
    assert (threshold(place), place.status()["indexing"]) == (0, "deferred")
    return process


def killed(place: Workplace) -> None:
    """Kill a load with all its processes, which leaves the target as it is."""
    process = loading(place)
    everybody = [process.pid, *workers_of(process.pid)]
    assert len(everybody) == 3
    for pid in everybody:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    until(lambda: not any(alive(pid) for pid in everybody))
    assert threshold(place) == 0


def test_h01_a_killed_load_leaves_no_index_behind_and_the_next_run_makes_it(
    slow: Workplace, qdrant_stand_in: QdrantStandIn
) -> None:
    killed(slow)
    qdrant_stand_in.stop()
    told = slow.call("status", ID)
    assert "put off until the load ends" in told.stdout, "it needs no database for that"
    qdrant_stand_in.start()
    slow.write(transfer=FAST)
    again = slow.run("migrate", ID)
    assert again.returncode == 0, again.stderr
    assert (threshold(slow), slow.status()["indexing"]) == (THRESHOLD, "built")
    assert differences(slow.target, RECORDS) == NOTHING


def test_h01_a_killed_load_that_is_given_up_is_indexed(slow: Workplace) -> None:
    killed(slow)
    assert slow.call("stop", ID).returncode == 0
    assert (threshold(slow), slow.status()["indexing"]) == (THRESHOLD, "building")
    assert slow.status()["partitions"]["done"] < slow.status()["partitions"]["total"]


def test_a_load_that_is_stopped_for_good_is_indexed(slow: Workplace) -> None:
    process = loading(slow)
    assert slow.call("stop", ID).returncode == 0
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert (threshold(slow), slow.status()["indexing"]) == (THRESHOLD, "building")


def test_a_run_that_ends_while_a_command_does_is_not_left_by_both(
    slow: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that the UI loads again sees a command at work, which has seen to the index already."""

    def load_again(work: migrating._Work, plan: Plan) -> None:
        again = {"extract_id_range": {"mode": "restart"}}
        run_job(load_job(work._migration), work._instance, ID, partition=plan.splits[0].key, ops=again)
        assert threshold(slow) == 0

    slow.write(transfer={**FAST, "workers": 1})
    monkeypatch.setattr(migrating._Work, "_check_counts", load_again)
    assert slow.call("migrate", ID).returncode == 0
    assert (slow.status()["indexing"], threshold(slow)) == ("building", THRESHOLD)


def test_h01_killed_between_the_last_partition_and_its_end_the_next_run_puts_it_back(
    slow: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    slow.write(transfer={**FAST, "workers": 1})
    with monkeypatch.context() as patch:
        patch.setattr(migrating, "finish_load", killed)
        patch.setattr(migrating, "leave", killed)
        assert slow.call("migrate", ID).returncode == 130
    status = slow.status()
    assert (status["status"], status["indexing"], threshold(slow)) == ("completed", "deferred", 0)
    assert slow.call("migrate", ID).returncode == 0
    assert (slow.status()["indexing"], threshold(slow)) == ("built", THRESHOLD)
