"""Killed at any moment, a migration that is run again ends complete, and goes on where it was.

`VECTORMIGRATE_KILLS=200 pytest vectormigrate_dagster_tests/test_kill.py -k embedded` is the full length for embedded
databases, `VECTORMIGRATE_SERVER_KILLS=50 pytest vectormigrate_dagster_tests/test_kill.py -k server` for servers;
without the variables 10 and 3 kills are made. How many hit running work is printed at the end. The embedded target is
always Milvus Lite, as Qdrant's local mode writes too slowly for this many repetitions. Between servers two workers
load; a worker, the command, and all of them are killed in turn.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster_tests.conftest import Collections
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
    following,
    until,
    wait_for,
    workers_of,
)

KILLS = int(os.environ.get("VECTORMIGRATE_KILLS", "10"))
SERVER_KILLS = int(os.environ.get("VECTORMIGRATE_SERVER_KILLS", "3"))
RECORDS = Records.of(20_000)
FEW = Records.of(5_000)
TRANSFER = {"checkpoint_seconds": 0.2, "partition_records": 1250, "batch_size": 100}
BETWEEN_SERVERS = {"checkpoint_seconds": 0.2, "partition_records": 5000, "batch_size": 500, "workers": 2}
FIRST_LEASE = "g0001-00000"

Moment = Callable[[Workplace, Process, float], None]
Victims = Callable[[int, int], list[int]]


@dataclass(frozen=True)
class Route:
    """From where to where records are moved, and how that is disturbed.

    Args:
        source: what is moved.
        records: what it holds.
        target: where the n-th migration goes, whose own folder is given.
        transfer: settings of the migration.
        kills: how often.
        moment: waits for the moment of a kill, a part (0 to 1) of the whole work.
        victims: the processes that the n-th kill hits, by the command's own.
    """

    name: str
    source: Endpoint
    records: Records
    target: Callable[[int, Path], Endpoint]
    transfer: dict[str, Any]
    kills: int
    moment: Moment
    victims: Victims


def the_command(pid: int, number: int) -> list[int]:
    return [pid]


def in_turn(pid: int, number: int) -> list[int]:
    """One worker, which is replaced; the command, which its workers notice; all of them at once."""
    workers = workers_of(pid)
    return [workers[:1], [pid], [pid, *workers]][number % 3]


EMBEDDED = ["qdrant", "milvus"]
SERVERS = [("milvus", "milvus"), ("qdrant", "milvus"), ("milvus", "qdrant")]


@pytest.fixture(scope="module", params=EMBEDDED, ids=lambda source: f"embedded-{source}")
def embedded_route(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Route:
    source = Endpoint(type=request.param, path=tmp_path_factory.mktemp("source") / "source.db", collection=COLLECTION)
    fill(source, FEW)
    seconds = clean_run(source, tmp_path_factory.mktemp("clean"))
    return Route(
        name=f"{request.param} to milvus",
        source=source,
        records=FEW,
        target=lambda number, folder: Endpoint(type="milvus", path=folder / "target.db", collection=COLLECTION),
        transfer=TRANSFER,
        kills=max(1, KILLS // len(EMBEDDED)),
        moment=lambda place, process, part: time.sleep(part * seconds),
        victims=the_command,
    )


@pytest.fixture(scope="module", params=SERVERS, ids=lambda types: f"server-{types[0]}-to-server-{types[1]}")
def server_route(request: pytest.FixtureRequest) -> Iterator[Route]:
    source_type, target_type = request.param
    source: Collections = request.getfixturevalue(f"{source_type}_collections")
    target: Collections = request.getfixturevalue(f"{target_type}_collections")
    origin = source("source")
    fill(origin, RECORDS)
    yield Route(
        name=f"{source_type} server to {target_type} server",
        source=origin,
        records=RECORDS,
        target=lambda number, folder: target(f"target_{number}"),
        transfer=BETWEEN_SERVERS,
        kills=max(1, SERVER_KILLS // len(SERVERS)),
        moment=moved_part,
        victims=lambda pid, number: in_turn(pid, number + SERVERS.index(request.param)),
    )
    drop(origin)


@pytest.mark.kill
@pytest.mark.timeout(240 + 60 * KILLS)
def test_h01_killed_and_run_again_loses_nothing(
    embedded_route: Route, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    disturb(embedded_route, tmp_path, record_property)


@pytest.mark.kill
@pytest.mark.timeout(300 + 90 * SERVER_KILLS)
def test_h01_killed_between_servers_and_run_again_loses_nothing(
    server_route: Route, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    disturb(server_route, tmp_path, record_property)


def disturb(route: Route, folder: Path, record_property: Callable[[str, object], None]) -> None:
    """Kill migrations at random moments of their load, each in a new target, and check what became of each."""
    chance = random.Random(f"{route.name} {route.kills}")
    hits = resumed = 0
    for number in range(1, route.kills + 1):
        place = Workplace.make(
            folder / f"kill-{number}",
            route.source,
            route.target(number, folder / f"kill-{number}"),
            transfer=route.transfer,
        )
        hits += kill_once(place, route, number, chance.random())
        before = checkpoints(place)
        again = place.run("migrate", ID)
        assert again.returncode == 0, again.stderr
        assert differences(place.target, route.records) == NOTHING
        assert place.status()["partitions"]["done"] == len(place.plan().splits) >= 4
        resumed += resumed_at(place, before)
        throw_away(place)
    record_property(
        "told", f"{route.name}: {hits} of {route.kills} kills hit running work, {resumed} partitions resumed"
    )
    assert hits >= max(1, route.kills * 3 // 4)


def clean_run(source: Endpoint, folder: Path) -> float:
    """Migrate undisturbed; return the seconds between the first read and the last acknowledgement."""
    place = Workplace.make(folder / "place", source, "milvus", transfer=TRANSFER)
    process = place.start("migrate", ID)
    assert wait_for(place.lease(FIRST_LEASE), process)
    began = time.time()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert differences(place.target, FEW) == NOTHING
    last = max(state.at.timestamp() for _, state in place.history() if state.state == "loading")
    throw_away(place)
    return last - began


def moved_part(place: Workplace, process: Process, part: float) -> None:
    """Wait until a part of the records is acknowledged; at most nine tenths, to meet running work."""
    with following(place) as states:

        def moved() -> int:
            return sum(state.acknowledged for state in states().values())

        until(lambda: process.poll() is not None or moved() >= 0.9 * part * len(RECORDS), seconds=120)


def kill_once(place: Workplace, route: Route, number: int, part: float) -> bool:
    """Start the migration and kill some of its processes; whether it was still loading."""
    process = place.start("migrate", ID)
    assert wait_for(place.lease(FIRST_LEASE), process)
    route.moment(place, process, part)
    everybody, killed = [process.pid], list[int]()
    if running := process.poll() is None:
        everybody += workers_of(process.pid)
        killed = route.victims(process.pid, number)
        for pid in killed:
            kill(pid)
    unfinished = sum(state.state == "done" for state in dict(place.history()).values()) < len(place.plan().splits)
    _, errors = process.communicate(timeout=240)
    if process.pid not in killed:
        assert process.returncode == 0, errors
    until(lambda: not any(alive(pid) for pid in everybody))
    return bool(killed) and running and unfinished


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        assert not alive(pid)


def checkpoints(place: Workplace) -> dict[str, str]:
    """The checkpoint of each partition that has one and is not done."""
    states = dict(place.history())
    return {key: state.after for key, state in states.items() if state.state != "done" and state.after is not None}


def resumed_at(place: Workplace, before: dict[str, str]) -> int:
    """Check that each partition went on at its checkpoint; return how many did."""
    states = dict(place.history())
    assert {key: states[key].resumed_from for key in before} == before
    return len(before)


def throw_away(place: Workplace) -> None:
    if not place.target.embedded:
        drop(place.target)
    shutil.rmtree(place.folder)


def drop(endpoint: Endpoint) -> None:
    with databases.open_target(endpoint) as database:
        database.drop()
