"""Checks the journal where several threads and processes use it at once, some of which are killed; on both engines."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import ConfigurationError, VectorMigrateError
from vectormigrate_dagster.live.group_commit import PerProcess
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, LaneLease, State, forks, intents
from vectormigrate_dagster_tests.live.journals import entered, frozen, keys, registered, rows

KILLS = int(os.environ.get("VECTORMIGRATE_WRITER_KILLS", "5"))

_WRITER = """
import os, sys
from vectormigrate_dagster.live.dual_writer import DualWriter

url, first, log = sys.argv[1], int(sys.argv[2]), os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with DualWriter(url, "packages") as writer:
    for number in range(first, first + 1_000_000, 2):
        ids = [number, number + 1]
        writer.upsert(ids, source=lambda: os.write(log, b"%d\\n%d\\n" % tuple(ids)))
        os.write(1, b".")
"""


@contextmanager
def opened(url: str) -> Iterator[Journal]:
    database = JournalDatabase(url)
    try:
        yield registered(database)
    finally:
        database.close()


def together(*tasks: Callable[[], object]) -> None:
    """Run tasks in threads until all have ended; what one of them raises is raised."""
    raised: list[BaseException] = []

    def run(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # threads keep their errors to themselves
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_a_lane_is_never_leased_twice(journal_url: str) -> None:
    """CE-2: two re-syncs of one key, the slower of which writes what is no longer so."""
    taken: list[LaneLease] = []
    with opened(journal_url) as journal:

        def take() -> None:
            while (lease := journal.lease(random.sample(range(64), 20), seconds=600)) is not None:
                taken.append(lease)

        together(*[take] * 6)
        together(*[take] * 6)
    lanes = Counter(lane for lease in taken for lane in lease.lanes)

    assert max(lanes.values()) == 1


def test_a_freeze_waits_for_admissions_in_progress_and_not_for_those_that_come(journal_url: str) -> None:
    """CE-6, rule 14: after the freeze no open intent means no writer that has passed the check."""
    stop, counted = threading.Event(), list[int]()
    with opened(journal_url) as journal:

        def write() -> None:
            while not stop.is_set():
                try:
                    journal.applied(journal.admit(keys(1), patience=0.0))
                except VectorMigrateError:
                    return  # frozen

        def freeze() -> None:
            for _ in range(20):
                entered(journal, State.CATCHING_UP)
            frozen(journal, 600)
            counted.append(len(rows(journal.database)))
            stop.set()

        together(*[write] * 5, freeze)

        assert counted == [len(rows(journal.database))]


def test_the_numbers_of_entries_that_are_still_to_appear_are_above_every_low(postgres_url: str) -> None:
    """CE-7, rule 4: a number is given before its commit, so who looks must wait for whoever has one."""
    with opened(postgres_url) as journal:
        has_number, go_on, looked = threading.Event(), threading.Event(), threading.Event()
        lows: list[int] = []

        def slow() -> None:
            with journal.holding("share") as (connection, control):
                intents.append(connection, control, [keys(1)], journal.database.now(connection))
                has_number.set()
                go_on.wait()

        def fast() -> None:
            has_number.wait()
            journal.note(keys(2), kind="touch")  # is committed with a larger number
            lows.append(journal.begin_split("all", seconds=60).low)
            looked.set()

        def watch() -> None:
            has_number.wait()
            waiting = 0
            while not waiting and not looked.is_set():
                with journal.database.reading() as connection:
                    waiting = connection.exec_driver_sql("select count(*) from pg_locks where not granted").scalar_one()
            go_on.set()

        together(slow, fast, watch)
        first = min(row.seq for row in rows(journal.database))

        assert lows == [first]


def test_many_processes_make_one_journal(journal_url: str) -> None:
    program = (
        "import sys\nfrom vectormigrate_dagster.live.journal import Journal, JournalDatabase\n"
        "from vectormigrate_dagster.model import IdKind\nprint(flush=True)\nsys.stdin.readline()\n"
        "Journal.register(JournalDatabase(sys.argv[1]), 'packages', id_kinds=[IdKind.U64], by='test')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, journal_url]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    for child in children:
        child.communicate()

    assert [child.returncode for child in children] == [0] * 3
    with opened(journal_url) as journal:
        assert journal.control().epoch == 1


def test_every_write_that_was_sent_is_named_by_an_intent_whatever_is_killed(journal_url: str, tmp_path: Path) -> None:
    """Rule 1, at every moment: SIGKILL of the writer never leaves a write of which nobody knows."""
    log = tmp_path / "sent"
    with opened(journal_url) as journal:
        for start in range(0, KILLS * 1_000_000, 1_000_000):
            child = subprocess.Popen(
                [sys.executable, "-c", _WRITER, journal_url, str(start), str(log)], stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            assert child.stdout.read(random.randint(1, 60)), "the writer ended by itself"
            child.send_signal(signal.SIGKILL)
            child.communicate()
            sent = {int(line) for line in log.read_text().splitlines()}
            named = {int(row.id) for row in rows(journal.database)}

            assert len(sent) > 0
            assert sent <= named
            assert len(named - sent) <= 2 * KILLS  # at most one write of each was admitted and not sent
            journal.applied(journal.admit(keys(999_999_999)))  # nobody holds it up
            lease = journal.lease(seconds=1)
            assert lease is not None
            journal.release(lease)


def test_a_process_that_is_stopped_in_a_transaction_does_not_hold_up_a_cutover_for_ever(postgres_url: str) -> None:
    """A host that is lost has its transaction ended by Postgres; here its connection is, from outside."""
    with opened(postgres_url) as journal, opened(postgres_url) as lost:
        held = lost.holding("share")
        connection, _ = held.__enter__()
        number = connection.exec_driver_sql("select pg_backend_pid()").scalar()
        limit = connection.exec_driver_sql("show idle_in_transaction_session_timeout").scalar()
        assert limit == "30s"
        with journal.database.transaction() as other:
            other.exec_driver_sql(f"select pg_terminate_backend({number})")
        frozen(journal)

        with pytest.raises(VectorMigrateError, match="refused"):
            held.__exit__(None, None, None)


_FORKING = """
import asyncio, os, sys
from vectormigrate_dagster.live.dual_writer import AsyncDualWriter, DualWriter

writer, asynchronous = DualWriter(sys.argv[1], "packages"), AsyncDualWriter(sys.argv[1], "packages")

async def nothing():
    pass

def write(first):
    for number in range(first, first + 10):
        writer.upsert([number], source=lambda: None)
        asyncio.run(asynchronous.upsert([number + 10], source=nothing))

def close():
    writer.close()
    asyncio.run(asynchronous.close())

write(0)
parent_is_over, parent_ends = os.pipe()
child = os.fork()
if child == 0:
    write(100)
    os.close(parent_ends)
    os.read(parent_is_over, 1)
    write(200)
    os._exit(0)  # as if it was killed: nothing is closed
close()
os.close(parent_ends)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_what_a_fork_notes_after_its_parent_has_closed_the_journal_is_seen_by_others(journal_url: str) -> None:
    """SQLite in a child that believes to hold its parent's locks goes on in a file that nobody else sees."""
    with opened(journal_url):
        pass
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKING, journal_url], check=False, timeout=300)

    assert done.returncode == 0
    with opened(journal_url) as journal:
        written = {*range(20), *range(100, 120), *range(200, 220)}
        assert {int(row.id) for row in rows(journal.database)} == written


def test_a_fork_waits_for_transactions_in_progress(tmp_path: Path) -> None:
    """What is open at a fork is open in the child too, which must not believe to hold a lock."""
    with opened(f"sqlite:///{tmp_path / 'journal.db'}") as journal:
        guard = journal.database._guard
        assert guard is not None
        held, go_on = threading.Event(), threading.Event()

        def work() -> None:
            with journal.holding("update"):
                held.set()
                go_on.wait()

        def fork() -> None:
            held.wait()
            forks._before()
            assert go_on.is_set()
            assert journal.database._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            forks._after()

        def watch() -> None:
            held.wait()
            while not forks._OPENING.locked():
                pass
            go_on.set()

        together(work, fork, watch)
        assert journal.control().epoch == 1


def test_a_fork_that_python_is_not_told_of_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(f"sqlite:///{tmp_path / 'journal.db'}") as journal:
        monkeypatch.setattr(journal.database._guard, "process", 1)
        with pytest.raises(ConfigurationError, match="open DualWriter after the fork"):
            journal.admit(keys(1))
        monkeypatch.undo()


def test_threads_that_come_first_after_a_fork_share_what_they_make() -> None:
    """Otherwise one of them would wait for an answer that nobody is to give."""
    both_make, given = threading.Barrier(2), list[object]()

    def make() -> object:
        both_make.wait()
        return object()

    own = PerProcess(make)
    together(*[lambda: given.append(own())] * 2)

    assert given[0] is given[1]
