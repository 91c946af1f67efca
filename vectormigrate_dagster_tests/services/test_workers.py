"""Worker processes: kept, replaced when they die, ended with their parent; two of them between real servers."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import (
    DatabaseError,
    InvalidRecord,
    Stopped,
    Throttled,
    ValidationFailed,
    VectorMigrateError,
    WorkerLost,
)
from vectormigrate_dagster.services import workers
from vectormigrate_dagster.services.workers import Order, WorkerPool
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.harness import (
    ID,
    NOTHING,
    Records,
    Workplace,
    alive,
    differences,
    fill,
    until,
    until_at_work,
    workers_of,
)

########
# The pool, with work that children do without a database
########

REFUSALS = {
    "validation": ValidationFailed("2 records differ"),
    "throttled": Throttled("slow down", retry_after=2.5),
    "record": InvalidRecord("too long", ids=("7", "8")),
    "database": DatabaseError("no such thing"),
}


def answer(pipe: Connection, order: Order) -> None:
    """A worker whose keys say what it does; it leaves a file for each key in its `home`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    with contextlib.suppress(EOFError):
        while True:
            key = pipe.recv()
            (order.home / f"{key}.{os.getpid()}").touch()
            if key.startswith("die") and len(list(order.home.glob(f"{key}.*"))) <= int(key[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            if key.startswith("exit"):
                os._exit(7)
            if key.startswith("hang"):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                (order.home / f"hangs.{os.getpid()}").touch()
                threading.Event().wait()
            if key.startswith("long"):
                ended.wait(60)
                pipe.send(Stopped(f"stopped while loading {key}"))
                continue
            pipe.send(REFUSALS.get(key))


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    monkeypatch.setattr(workers, "_work", answer)
    with WorkerPool(Order(home=tmp_path, migration=None), 2) as pool:  # type: ignore[arg-type]  # nobody reads it
        yield pool


def pids(folder: Path) -> set[str]:
    return {path.suffix for path in folder.glob("*.*")}


def test_workers_are_kept_from_one_partition_to_the_next(pool: WorkerPool, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(pool.load, [f"p{number}" for number in range(12)]))
    assert len(list(tmp_path.glob("p*"))) == 12
    assert len(pids(tmp_path)) <= 2


@pytest.mark.parametrize("key", REFUSALS)
def test_what_a_run_failed_with_comes_back_as_it_was(pool: WorkerPool, key: str) -> None:
    with pytest.raises(type(REFUSALS[key])) as told:
        pool.load(key)
    assert str(told.value) == str(REFUSALS[key])
    assert vars(told.value) == vars(REFUSALS[key])
    pool.load("next")


def test_a_worker_that_dies_is_replaced(pool: WorkerPool, tmp_path: Path) -> None:
    pool.load("die2")
    assert len(list(tmp_path.glob("die2.*"))) == 3
    pool.load("next")


def test_a_partition_that_kills_every_worker_is_named(pool: WorkerPool) -> None:
    with pytest.raises(
        WorkerLost, match=r"3 worker processes .* partition 'die9', the last one by signal SIGKILL"
    ) as told:
        pool.load("die9")
    assert told.value.exit_code == 3
    with pytest.raises(WorkerLost, match="exit code 7"):
        pool.load("exit")
    pool.load("next")


def test_stop_ends_work_and_begins_nothing(pool: WorkerPool, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(pool.load, key) for key in ("long1", "long2", "waiting")]
        until(lambda: len(list(tmp_path.glob("long*"))) == 2)
        pool.stop()
        reasons = [str(future.exception(timeout=60)) for future in futures]
    assert sorted(reasons[:2]) == ["stopped while loading long1", "stopped while loading long2"]
    assert "the other workers were asked to stop" in reasons[2]
    assert not list(tmp_path.glob("waiting.*"))


def test_a_worker_that_does_not_stop_is_killed(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_STOP_SECONDS", 0.5)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(pool.load, "hang")
        until(lambda: bool(list(tmp_path.glob("hangs.*"))))
        pool.stop()
        assert isinstance(future.exception(timeout=60), Stopped)
    (hung,) = tmp_path.glob("hangs.*")
    assert not alive(int(hung.suffix[1:]))


def test_a_bug_in_a_run_is_named_and_its_worker_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_: object, **__: object) -> str:
        raise KeyError("a field nobody knows")

    monkeypatch.setattr(workers, "load_job", lambda migration: migration)
    monkeypatch.setattr(workers, "run_job", buggy)
    mine, theirs = multiprocessing.Pipe()
    with mine:
        for _ in range(2):
            mine.send("g0001-00000")

        def ask() -> list[VectorMigrateError]:
            told = [mine.recv() for _ in range(2)]
            mine.close()
            return told

        with ThreadPoolExecutor(1) as threads:
            asked = threads.submit(ask)
            workers._work(theirs, Order(home=tmp_path / "home", migration=SimpleNamespace(id=ID)))  # type: ignore[arg-type]  # only its id is read
            for error in asked.result():
                assert type(error) is VectorMigrateError
                assert "unexpected: KeyError('a field nobody knows')" in str(error)


########
# A migration between servers
########

RECORDS = Records.of(6000)
SLOW = {"partition_records": 2000, "batch_size": 100, "checkpoint_seconds": 0.2, "workers": 2, "rate_limit": 300}


@pytest.fixture(scope="module")
def source(milvus_collections: Collections) -> Iterator[Endpoint]:
    endpoint = milvus_collections("source")
    fill(endpoint, RECORDS)
    yield endpoint
    drop(endpoint)


@pytest.fixture
def slow(tmp_path: Path, milvus_collections: Collections, source: Endpoint) -> Iterator[Workplace]:
    """A migration of 6,000 records in 3 partitions with 2 workers, which takes 20 seconds unless it is hurried."""
    target = milvus_collections("target")
    yield Workplace.make(tmp_path, source, target, transfer=SLOW)
    drop(target)


def drop(endpoint: Endpoint) -> None:
    with databases.open_target(endpoint) as database:
        database.drop()


def finish(slow: Workplace) -> None:
    slow.write(transfer={**SLOW, "rate_limit": 100_000})
    again = slow.call("migrate", ID)
    assert again.returncode == 0, again.stderr
    assert differences(slow.target, RECORDS) == NOTHING
    assert {state.state for state in dict(slow.history()).values()} == {"done"}


def test_a_killed_worker_is_replaced_and_nothing_is_lost(slow: Workplace) -> None:
    process = slow.start("migrate", ID)
    until_at_work(slow, process, partitions=2)
    first, second = workers_of(process.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(set(workers_of(process.pid)) - {first, second}) == 1)
    assert slow.call("throttle", ID, "--rate", "none").returncode == 0
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert differences(slow.target, RECORDS) == NOTHING
    states = [state for _, state in slow.history()]
    assert sum(state.state == "lost" for state in states) == 1
    assert max(state.attempt for state in states) == 2
    assert any(state.resumed_from is not None for state in states)
    validated = slow.call("validate", ID, "--full", "--workers", "2", "--json")
    assert validated.returncode == 0, validated.stderr
    checked = {tier["name"]: tier["checked"] for tier in json.loads(validated.stdout)["tiers"]}
    assert checked["records"] == checked["ids"] == len(RECORDS)


def test_a_signal_ends_all_workers_at_a_checkpoint(slow: Workplace) -> None:
    process = slow.start("migrate", ID)
    until_at_work(slow, process, partitions=2)
    children = workers_of(process.pid)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "go on with: vectormigrate" in errors
    assert not any(alive(child) for child in children)
    last = dict(slow.history())
    assert "stopped" in {state.state for state in last.values()} <= {"stopped", "done"}
    finish(slow)
    resumed = {
        key: state.resumed_from for key, state in slow.history() if last.get(key) and last[key].state == "stopped"
    }
    assert resumed == {key: state.after for key, state in last.items() if state.state == "stopped"}


def test_workers_end_when_their_parent_is_killed(slow: Workplace) -> None:
    process = slow.start("migrate", ID)
    until_at_work(slow, process, partitions=2)
    children = workers_of(process.pid)
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not any(alive(child) for child in children))
    assert "stopped" in {state.state for state in dict(slow.history()).values()} <= {"stopped", "done"}
    finish(slow)


def test_the_rate_is_that_of_all_workers_together(slow: Workplace) -> None:
    """While both are at work, no more is acknowledged than the rate allows, plus what each had read before."""
    rate = 350
    slow.write(transfer={**SLOW, "partition_records": 3000, "rate_limit": rate})
    process = slow.start("migrate", ID)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    events = sorted((state.at, key, state.acknowledged) for key, state in slow.history())
    moved, began, before = dict[str, int](), None, 0
    for at, key, acknowledged in events:
        moved[key] = acknowledged
        if began is None and sum(records > 0 for records in moved.values()) == 2:
            began, before = at, sum(moved.values())
        if began is not None:
            # What may be under way when the time begins: three pages of each worker, of at most a second's worth.
            assert sum(moved.values()) - before <= rate * (at - began).total_seconds() + 2 * 3 * rate
    assert sum(moved.values()) == len(RECORDS)
    assert differences(slow.target, RECORDS) == NOTHING
