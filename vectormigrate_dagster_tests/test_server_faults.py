"""What the real command does when a server refuses, fails, fills up, goes away or changes while records are moved.

Each ends with one clear line and the documented exit code, or is survived; run again, every migration is complete.
"""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn, Settings
from vectormigrate_dagster_tests.harness import (
    COLLECTION,
    ID,
    KEY_VARIABLES,
    NOTHING,
    Process,
    Records,
    Workplace,
    alive,
    differences,
    fill,
    schema,
    until,
    until_at_work,
    workers_of,
)
from vectormigrate_dagster_tests.servers.milvus import QUICK, MilvusServer

RECORDS = Records.of(2000)
TRANSFER = {"partition_records": 700, "batch_size": 50, "checkpoint_seconds": 0, "workers": 1}
WRONG_KEY = "wr0ng-k3y-that-nobody-may-see"


def on(server: QdrantStandIn, collection: str, *, key: str | None = None) -> Endpoint:
    options = QdrantOptions(grpc_url=server.grpc_url)
    secret = SecretStr(key) if key else None
    return Endpoint(type="qdrant", url=server.url, collection=collection, options=options, api_key=secret)


@pytest.fixture
def qdrant(tmp_path: Path, qdrant_stand_in: QdrantStandIn) -> Workplace:
    """2,000 records of a Qdrant stand-in, to be moved to another collection of it."""
    fill(on(qdrant_stand_in, COLLECTION), RECORDS)
    return Workplace.make(tmp_path, on(qdrant_stand_in, COLLECTION), on(qdrant_stand_in, "copies"), transfer=TRANSFER)


@pytest.fixture(scope="module")
def own_milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real Milvus that only this module's tests use, because they kill it."""
    with MilvusServer.start(tmp_path_factory.mktemp("own-milvus"), QUICK) as server:
        fill(Endpoint(type="milvus", url=server.url, collection=COLLECTION), RECORDS)
        yield server


@pytest.fixture
def milvus(tmp_path: Path, own_milvus: MilvusServer) -> Iterator[Workplace]:
    """2,000 records of a real Milvus, to be moved to another collection of it in 4 seconds."""
    source, target = (Endpoint(type="milvus", url=own_milvus.url, collection=name) for name in (COLLECTION, "copies"))
    yield Workplace.make(tmp_path, source, target, transfer={**TRANSFER, "rate_limit": 500})
    with databases.open_target(target) as database:
        database.drop()


def said(done: subprocess.CompletedProcess[str] | Process, errors: str, code: int) -> str:
    """The error line of a command that ended with `code`."""
    assert done.returncode == code, errors
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    return line


def finish(place: Workplace, **transfer: object) -> None:
    """Run the migration again, as fast as it goes, and check that all of it arrived."""
    place.write(transfer={**TRANSFER, **transfer})
    again = place.call("migrate", ID)
    assert again.returncode == 0, again.stderr
    assert differences(place.target, RECORDS) == NOTHING
    status = place.status()
    assert (status["status"], status["refused"], status["skipped"]) == ("completed", 0, 0)


########
# Whoever is not let in
########


def test_a_wrong_key_of_qdrant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLES["qdrant"], WRONG_KEY)
    with QdrantStandIn(Settings(api_key="right")) as server:
        fill(on(server, COLLECTION, key="right"), Records.of(10))
        place = Workplace.make(tmp_path, on(server, COLLECTION, key=WRONG_KEY), "milvus", transfer=TRANSFER)
        done = place.run("migrate", ID)
    line = said(done, done.stderr, 3)
    assert f"qdrant collection '{COLLECTION}' at {server.url} does not accept the key" in line
    assert WRONG_KEY not in done.stderr + done.stdout
    assert not place.target.path.exists()  # type: ignore[union-attr]


def test_a_wrong_key_of_milvus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLES["milvus"], f"root:{WRONG_KEY}")
    with MilvusServer.start(tmp_path / "server", QUICK | {"common.security.authorizationEnabled": "true"}) as server:
        source = Endpoint(type="milvus", url=server.url, collection=COLLECTION, api_key=SecretStr("any"))
        place = Workplace.make(tmp_path, source, "milvus", transfer=TRANSFER)
        done = place.run("migrate", ID)
        line = said(done, done.stderr, 3)
        assert f"milvus collection '{COLLECTION}' at {server.url} does not accept the key" in line
        assert WRONG_KEY not in done.stderr + done.stdout
        monkeypatch.setenv(KEY_VARIABLES["milvus"], "root:Milvus")
        fill(Endpoint(type="milvus", url=server.url, collection=COLLECTION, api_key=SecretStr("root:Milvus")), RECORDS)
        finish(place)


@pytest.mark.parametrize("type", ["qdrant", "milvus"])
def test_a_server_that_is_not_there(tmp_path: Path, type: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        place = Workplace.make(tmp_path, Endpoint(type=type, url=url, collection=COLLECTION), "milvus")
        done = place.run("migrate", ID)
    line = said(done, done.stderr, 3)
    assert f"{type} collection '{COLLECTION}' at {url} does not answer" in line
    assert "go on with: vectormigrate" in done.stderr


########
# Servers that fail for a while
########

PASSING = [
    ("throttle", "Scroll", 3),
    ("throttle", "Upsert", 4),
    ("unavailable", "Scroll", 5),
    ("unavailable", "Upsert", 9),
    ("unavailable", "Count", 2),
    ("unavailable", "GetCollection", 2),
    ("reset_before", "Scroll", 8),
    ("reset_after", "Upsert", 14),
    ("reset_before", "Upsert", 19),
    ("throttle", "Get", 1),
    ("reset_after", "CreateCollection", 1),
]


def test_h28_passing_faults_of_every_kind_of_call_are_survived(
    qdrant: Workplace, qdrant_stand_in: QdrantStandIn
) -> None:
    for what, method, nth in PASSING:
        qdrant_stand_in.fault(what, method, nth=nth, retry_after=0.1 if what == "throttle" else None)
    before = qdrant_stand_in.calls()
    done = qdrant.run("migrate", ID)
    assert done.returncode == 0, done.stderr
    assert differences(qdrant.target, RECORDS) == NOTHING
    calls = qdrant_stand_in.calls()
    for _, method, nth in PASSING:
        assert calls[method] - before.get(method, 0) > nth


def test_a_server_that_stays_throttled_ends_the_load_and_keeps_what_it_has(
    qdrant: Workplace, qdrant_stand_in: QdrantStandIn
) -> None:
    qdrant_stand_in.fault("throttle", "Upsert", nth=10, times=None, retry_after=0.01)
    qdrant.write(transfer={**TRANSFER, "max_retries": 2})
    done = qdrant.run("migrate", ID)
    assert "asks us to slow down" in said(done, done.stderr, 3)
    moved = qdrant.status()["progress"]["migrated_records"]
    assert 0 < moved < len(RECORDS)
    qdrant_stand_in.clear_faults()
    finish(qdrant)


########
# Servers that will not take it, and collections that change
########


def test_a_full_disk_of_the_server_refuses_no_record(qdrant: Workplace, qdrant_stand_in: QdrantStandIn) -> None:
    qdrant_stand_in.fault("disk_full", "Upsert", nth=12, times=None)
    done = qdrant.run("migrate", ID)
    assert "No space left on device" in said(done, done.stderr, 3)
    status = qdrant.status()
    assert status["refused"] == 0
    assert 0 < status["progress"]["migrated_records"] < len(RECORDS)
    qdrant_stand_in.clear_faults()
    finish(qdrant)


def test_a_source_that_was_made_anew_with_another_schema(qdrant: Workplace) -> None:
    qdrant.write(transfer={**TRANSFER, "rate_limit": 500})
    process = qdrant.start("migrate", ID)
    until_at_work(qdrant, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    said(process, errors, 130)
    with databases.open_target(qdrant.source) as database:
        database.drop()
        database.create(schema("qdrant", dim=8))
    done = qdrant.run("migrate", ID)
    assert f"vectors of '{COLLECTION}' in the source changed since the plan was made" in said(done, done.stderr, 1)
    assert f"plan {ID} --replan" in done.stderr


def test_a_target_that_is_dropped_while_it_is_filled(qdrant: Workplace) -> None:
    qdrant.write(transfer={**TRANSFER, "rate_limit": 500})
    process = qdrant.start("migrate", ID)
    until_at_work(qdrant, process)
    with databases.open_target(qdrant.target) as database:
        database.drop()
    _, errors = process.communicate(timeout=60)
    assert "there is no qdrant collection 'copies'" in said(process, errors, 3)


########
# An end that is asked for while a server is away
########

AN_HOUR = 3600.0


def until_throttled(place: Workplace, process: Process, server: QdrantStandIn, method: str) -> None:
    """Make every further call of `method` wait an hour, and wait until one does."""
    until_at_work(place, process)
    server.fault("throttle", method, times=None, retry_after=AN_HOUR)
    before = server.calls()[method]
    until(lambda: server.calls()[method] > before)


def end(place: Workplace, process: Process, how: str) -> None:
    """Ask a migration to end."""
    if how == "stop":
        assert place.call("stop", ID).returncode == 0
    else:
        process.send_signal(signal.Signals[how])


@pytest.mark.parametrize(
    ("how", "workers", "method"),
    [
        ("SIGINT", 1, "Upsert"),
        ("SIGTERM", 2, "Upsert"),
        ("stop", 1, "Upsert"),
        ("stop", 2, "Scroll"),
        ("SIGINT", 1, "Scroll"),
    ],
)
def test_an_end_is_not_held_up_by_a_side_that_asks_to_wait(
    qdrant: Workplace, qdrant_stand_in: QdrantStandIn, how: str, workers: int, method: str
) -> None:
    qdrant.write(transfer={**TRANSFER, "rate_limit": 500, "workers": workers})
    process = qdrant.start("migrate", ID)
    until_throttled(qdrant, process, qdrant_stand_in, method)
    children = workers_of(process.pid)
    end(qdrant, process, how)
    _, errors = process.communicate(timeout=60)
    said(process, errors, 130)
    assert "go on with: vectormigrate" in errors
    assert not any(alive(child) for child in children)
    assert qdrant.status()["status"] == "stopped"
    qdrant_stand_in.clear_faults()
    finish(qdrant)


@pytest.mark.parametrize(("how", "method"), [("stop", "Count"), ("SIGINT", "GetCollection")])
def test_an_end_is_not_held_up_before_and_after_the_load(
    qdrant: Workplace, qdrant_stand_in: QdrantStandIn, how: str, method: str
) -> None:
    """`GetCollection` is asked when the target is prepared, `Count` when all partitions are done."""
    assert qdrant.call("plan", ID).returncode == 0
    before = qdrant_stand_in.calls().get(method, 0)
    qdrant_stand_in.fault("throttle", method, times=None, retry_after=AN_HOUR)
    process = qdrant.start("migrate", ID)
    until(lambda: qdrant_stand_in.calls().get(method, 0) > before)
    end(qdrant, process, how)
    _, errors = process.communicate(timeout=60)
    said(process, errors, 130)
    qdrant_stand_in.clear_faults()
    finish(qdrant)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_interrupt_waits_for_no_call(qdrant: Workplace, qdrant_stand_in: QdrantStandIn, workers: int) -> None:
    qdrant.write(transfer={**TRANSFER, "rate_limit": 500, "workers": workers})
    process = qdrant.start("migrate", ID)
    until_at_work(qdrant, process)
    before = qdrant_stand_in.calls()["Upsert"]
    qdrant_stand_in.fault("delay", "Upsert", times=None, seconds=60)
    until(lambda: qdrant_stand_in.calls()["Upsert"] > before)
    children = workers_of(process.pid)

    def asked_again() -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    until(asked_again, seconds=10)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    until(lambda: not any(alive(child) for child in children))
    qdrant_stand_in.clear_faults()
    finish(qdrant)


########
# A server that goes away: last, so that it does not stand by while the others run
########


def test_a_server_that_goes_away_for_good_ends_the_load(milvus: Workplace, own_milvus: MilvusServer) -> None:
    milvus.write(transfer={**TRANSFER, "rate_limit": 500, "max_retries": 1})
    process = milvus.start("migrate", ID)
    until_at_work(milvus, process)
    own_milvus.kill()
    _, errors = process.communicate(timeout=120)
    assert f"at {own_milvus.url} does not answer" in said(process, errors, 3)
    assert milvus.status()["status"] == "failed"
    own_milvus.restart()
    finish(milvus)


def test_a_server_that_comes_back_is_waited_for(milvus: Workplace, own_milvus: MilvusServer) -> None:
    milvus.write(transfer={**TRANSFER, "rate_limit": 500, "max_retries": 30})
    process = milvus.start("migrate", ID)
    until_at_work(milvus, process)
    own_milvus.restart()
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert differences(milvus.target, RECORDS) == NOTHING
