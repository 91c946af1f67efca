"""Killed at any moment, a migration that is run again ends complete, and goes on where it was.

`VECTORMIGRATE_KILLS=200 pytest vectormigrate_dagster_tests/test_kill.py` is the full length; without the variable
10 kills are made. How many hit running work is printed at the end. Half of them read Qdrant, half Milvus Lite; the
target is always Milvus Lite, as Qdrant's local mode writes too slowly for this many repetitions.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster_tests.harness import COLLECTION, ID, NOTHING, Records, Workplace, differences, fill, wait_for

KILLS = int(os.environ.get("VECTORMIGRATE_KILLS", "10"))
RECORDS = Records.of(20_000)
TRANSFER = {"checkpoint_seconds": 0.5, "partition_records": 3500, "batch_size": 500}
FIRST_LEASE = "g0001-00000"


@pytest.fixture(scope="module", params=["qdrant", "milvus"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    folder = tmp_path_factory.mktemp("source")
    endpoint = Endpoint(type=request.param, path=folder / "source.db", collection=COLLECTION)
    fill(endpoint, RECORDS)
    return endpoint


@pytest.mark.kill
@pytest.mark.timeout(240 + 60 * KILLS)
def test_h01_killed_and_run_again_loses_nothing(
    source: Endpoint, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seconds = _clean_run(source, tmp_path / "clean")
    chance = random.Random(KILLS)
    hits = resumed = 0
    for number in range(max(1, KILLS // 2)):
        place = Workplace.make(tmp_path / f"kill-{number}", source, "milvus", transfer=TRANSFER)
        hit = _kill_after(place, chance.uniform(0, seconds))
        before = _checkpoints(place)
        again = place.run("migrate", ID)
        assert again.returncode == 0, again.stderr
        assert differences(place.target, RECORDS) == NOTHING
        assert place.status()["partitions"]["done"] == len(place.plan().splits) >= 5
        hits += hit
        resumed += _resumed(place, before)
        shutil.rmtree(place.folder)
    record_property(
        "told", f"{source.type} to milvus: {hits} of {number + 1} kills hit running work, {resumed} partitions resumed"
    )
    assert hits >= (number + 1) * 3 // 4


def _clean_run(source: Endpoint, folder: Path) -> float:
    """Migrate undisturbed; return the seconds between the first read and the last acknowledgement."""
    place = Workplace.make(folder, source, "milvus", transfer=TRANSFER)
    process = place.start("migrate", ID)
    assert wait_for(place.lease(FIRST_LEASE), process)
    began = time.time()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert differences(place.target, RECORDS) == NOTHING
    last = max(state.at.timestamp() for _, state in place.history() if state.state == "loading")
    shutil.rmtree(folder)
    return last - began


def _kill_after(place: Workplace, seconds: float) -> bool:
    """Start the migration and kill it `seconds` after its first read; whether it was still loading."""
    process = place.start("migrate", ID)
    assert wait_for(place.lease(FIRST_LEASE), process)
    time.sleep(seconds)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    states = dict(place.history())
    return alive and sum(state.state == "done" for state in states.values()) < len(place.plan().splits)


def _checkpoints(place: Workplace) -> dict[str, str]:
    """The checkpoint of each partition that has one and is not done."""
    states = dict(place.history())
    return {key: state.after for key, state in states.items() if state.state != "done" and state.after is not None}


def _resumed(place: Workplace, before: dict[str, str]) -> int:
    """Check that each partition went on at its checkpoint; return how many did."""
    states = dict(place.history())
    assert {key: states[key].resumed_from for key in before} == before
    return len(before)
