"""Whatever ends a migration (a signal, a kill at the worst moment, a full disk), it can be resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster_tests.conftest import SMALL
from vectormigrate_dagster_tests.harness import (
    COLLECTION,
    ID,
    NOTHING,
    Records,
    Workplace,
    differences,
    environment,
    fill,
    wait_for,
)

DIE_BEFORE_DONE = """
import os, signal, sys
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.cli import main
record = MigrationLog.record
def dying(self, key, document):
    if getattr(document, "state", None) == "done":
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, key, document)
MigrationLog.record = dying
main()
"""
LIMITED_FILES = """
import resource, signal, sys
from vectormigrate_dagster.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
del sys.argv[1]
main()
"""
MANY = Records.of(6000)
SLOW = {"partition_records": 1500, "batch_size": 50, "checkpoint_seconds": 0.1, "rate_limit": 600}


@pytest.fixture(scope="module")
def larger_source(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    endpoint = Endpoint(type="milvus", path=tmp_path_factory.mktemp("larger") / "source.db", collection=COLLECTION)
    fill(endpoint, MANY)
    return endpoint


@pytest.fixture
def slow(tmp_path: Path, larger_source: Endpoint) -> Workplace:
    """A migration of 6,000 records that takes seconds."""
    return Workplace.make(tmp_path, larger_source, "milvus", transfer=SLOW)


def finish(slow: Workplace) -> subprocess.CompletedProcess[str]:
    """Migrate again, as fast as it goes."""
    slow.write(transfer={**SLOW, "rate_limit": 100_000})
    return slow.call("migrate", ID)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_130_and_can_be_resumed(slow: Workplace, number: signal.Signals) -> None:
    process = slow.start("migrate", ID)
    assert wait_for(slow.lease("g0001-00001"), process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "go on with: vectormigrate" in errors
    stopped = slow.status()
    assert stopped["status"] == "stopped"
    assert 0 < stopped["progress"]["migrated_records"] < len(MANY)
    again = finish(slow)
    assert again.returncode == 0, again.stderr
    assert differences(slow.target, MANY) == NOTHING
    before = {key: state.after for key, state in slow.history() if state.state == "stopped"}
    resumed = {key: state.resumed_from for key, state in slow.history() if key in before and state.state == "done"}
    assert resumed == before


def test_stop_ends_work_in_another_process(slow: Workplace) -> None:
    process = slow.start("migrate", ID)
    assert wait_for(slow.lease("g0001-00001"), process)
    assert slow.call("stop", ID).returncode == 0
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert slow.status()["status"] == "stopped"
    again = finish(slow)
    assert again.returncode == 0, again.stderr
    assert differences(slow.target, MANY) == NOTHING


def test_throttle_changes_work_in_another_process(slow: Workplace) -> None:
    slow.write(transfer={**SLOW, "rate_limit": 50})
    process = slow.start("migrate", ID)
    assert wait_for(slow.lease("g0001-00000"), process)
    assert slow.call("throttle", ID, "--rate", "100000").returncode == 0
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert differences(slow.target, MANY) == NOTHING


def test_two_at_once_share_the_work_or_wait(slow: Workplace) -> None:
    slow.write(transfer={**SLOW, "rate_limit": 3000})
    both = [slow.start("migrate", ID) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert differences(slow.target, MANY) == NOTHING


def test_four_at_once_on_a_fresh_home(place: Workplace) -> None:
    four = [place.start("migrate", ID) for _ in range(4)]
    for process in four:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert differences(place.target, SMALL) == NOTHING
    assert place.plan().generation == 1


def test_killed_while_planning(slow: Workplace) -> None:
    process = slow.start("migrate", ID)
    assert wait_for(slow.lease("plan"), process)
    process.kill()
    process.communicate(timeout=60)
    again = finish(slow)
    assert again.returncode == 0, again.stderr
    assert differences(slow.target, MANY) == NOTHING
    assert slow.plan().generation == 1


def test_killed_between_the_materialization_and_done(place: Workplace) -> None:
    words = ["--home", str(place.home), "--migrations", str(place.migrations), "migrate", ID]
    killed = subprocess.run(
        [sys.executable, "-c", DIE_BEFORE_DONE, *words], capture_output=True, env=environment(), check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with open_home(place.home) as instance:
        materialized = instance.get_materialized_partitions(names.migration_asset(ID))
        assert len(materialized) == 1
        log = MigrationLog(instance, ID)
        log.refresh()
        first = log.partitions(log.require_plan())[materialized.pop()]
    assert first.state == "loading"
    again = place.run("migrate", ID)
    assert again.returncode == 0, again.stderr
    assert differences(place.target, SMALL) == NOTHING
    last = dict(place.history())
    assert {state.state for state in last.values()} == {"done"}
    assert sum(state.acknowledged for state in last.values()) == len(SMALL)


def test_runs_deleted_in_the_ui_are_not_forgotten(place: Workplace) -> None:
    assert place.run("migrate", ID).returncode == 0
    done = json.loads(place.run("status", ID, "--json").stdout)
    with open_home(place.home) as instance:
        for record in instance.get_run_records():
            instance.delete_run(record.dagster_run.run_id)
        assert not instance.get_run_records()
    assert place.status()["status"] == "completed"
    assert place.status()["progress"] == done["progress"]
    writes = len(place.history())
    again = place.run("migrate", ID)
    assert again.returncode == 0, again.stderr
    assert len(place.history()) == writes
    assert differences(place.target, SMALL) == NOTHING


@pytest.mark.parametrize(
    ("kilobytes", "culprit"), [(100, "Dagster's storage"), (140, "Dagster's storage"), (220, "cannot use its disk")]
)
def test_a_full_disk_is_named_and_can_be_resumed(slow: Workplace, kilobytes: int, culprit: str) -> None:
    """Files may not grow over a limit, which is how a full disk looks to whoever writes."""
    assert slow.call("status", ID).returncode == 0  # the home is there
    words = ["--home", str(slow.home), "--migrations", str(slow.migrations), "migrate", ID]
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED_FILES, str(kilobytes * 1024), *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert limited.returncode == 3, limited.stderr
    assert culprit in limited.stderr.rpartition("error: ")[2]
    assert "Traceback" not in limited.stderr
    again = finish(slow)
    assert again.returncode == 0, again.stderr
    assert differences(slow.target, MANY) == NOTHING
