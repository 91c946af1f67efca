"""Checks what an application relies on: a write goes to the primary, and the journal knows before and after."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Endpoint, open_target
from vectormigrate_dagster.errors import InvalidRecord, NotFound, NotSo, StorageFailed, Unavailable
from vectormigrate_dagster.live import dual_writer, group_commit
from vectormigrate_dagster.live.dual_writer import AsyncDualWriter, DualWriter
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, Key, State
from vectormigrate_dagster.live.journal.tables import APPLIED
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster_tests.harness import COLLECTION, Records, fill
from vectormigrate_dagster_tests.live.journals import (
    BOUNDS,
    MIGRATION,
    carried_over,
    entered,
    frozen,
    keys,
    registered,
    rows,
    switched,
)


@pytest.fixture
def journal(journal_url: str) -> Iterator[Journal]:
    database = JournalDatabase(journal_url)
    yield registered(database)
    database.close()


@pytest.fixture
def writer(journal: Journal, journal_url: str) -> Iterator[DualWriter]:
    with DualWriter(journal_url, MIGRATION, patience=0.0, refusals=(ValueError,)) as found:
        yield found


def failing(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


########
# One writer
########


def test_a_write_is_named_before_it_is_sent_and_acknowledged_after(writer: DualWriter, journal: Journal) -> None:
    seen = []

    answer = writer.upsert([1, 2], source=lambda: seen.append(journal.lag().open) or "answer")
    writer.delete([3], source=lambda: seen.append(journal.lag().open))
    writer.close()

    assert answer == "answer"
    assert seen[0] == 2
    assert seen[1] in {1, 3}  # that the first was acknowledged is told with the second admission, or before
    assert journal.lag().open == 0
    assert carried_over(journal) == keys(1, 2, 3)


def test_after_the_switch_writes_go_to_the_target(writer: DualWriter, journal: Journal) -> None:
    assert writer.read_target() == "source"
    switched(journal)

    assert writer.upsert([1], source=lambda: "source", target=lambda: "target") == "target"
    assert writer.delete([1], source=lambda: "source", target=lambda: "target") == "target"
    assert writer.read_target() == "target"


def test_an_application_that_cannot_write_to_the_target_is_told_and_leaves_nothing_open(
    writer: DualWriter, journal: Journal
) -> None:
    switched(journal)

    with pytest.raises(NotSo, match="pass target="):
        writer.upsert([1], source=lambda: "source")
    writer.close()

    assert journal.lag().open == 0


def test_a_write_that_was_held_up_is_not_sent_and_leaves_nothing_open(journal: Journal, journal_url: str) -> None:
    bounds = replace(BOUNDS, start=0.0)
    journal.replan(id_kinds=[IdKind.U64], bounds=bounds, by="test", reason="no time")
    sent: list[int] = []
    with DualWriter(journal_url, MIGRATION) as writer, pytest.raises(Unavailable, match="too long ago"):
        writer.upsert([1], source=lambda: sent.append(1))

    assert sent == []
    assert journal.lag().open == 0


def test_an_outcome_that_is_unknown_stays_open_and_a_refusal_does_not(writer: DualWriter, journal: Journal) -> None:
    with pytest.raises(TimeoutError):
        writer.upsert([1], source=failing(TimeoutError()))
    with pytest.raises(ValueError, match="no such field"):
        writer.upsert([2], source=failing(ValueError("no such field")))
    writer.close()

    assert journal.lag().open == 1
    assert carried_over(journal) == keys(2)


def test_writes_wait_for_the_end_of_a_freeze_and_not_for_ever(
    writer: DualWriter, journal: Journal, journal_url: str
) -> None:
    control = frozen(journal, 600)
    with pytest.raises(Unavailable, match="0 s were not enough"):
        writer.upsert([1], source=lambda: None)
    assert rows(journal.database) == []

    with DualWriter(journal_url, MIGRATION, patience=600) as patient:
        thread = threading.Thread(target=patient.upsert, args=([1],), kwargs={"source": lambda: None})
        thread.start()
        journal.enter(State.CATCHING_UP, since=control, by="test", reason="given up")
        thread.join()
    assert carried_over(journal) == keys(1)


def test_acknowledgements_are_told_while_writes_are_frozen(writer: DualWriter, journal: Journal) -> None:
    """Otherwise the drain of a cutover would wait for intents until they are too old."""
    writer.upsert([1], source=lambda: frozen(journal, 600))
    writer.close()

    assert journal.lag().open == 0


def test_an_acknowledgement_is_told_though_nobody_writes_any_more(writer: DualWriter, journal: Journal) -> None:
    writer.upsert([1], source=lambda: None)
    told = threading.Event()

    def look() -> None:
        while journal.lag().open:
            pass
        told.set()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60)

    assert told.is_set()


def test_ids_and_scopes_become_keys_of_the_source(writer: DualWriter, journal: Journal) -> None:
    writer.upsert([5], source=lambda: None, scope="eu")
    with pytest.raises(InvalidRecord, match="no id of the source"):
        writer.upsert([5, -1], source=lambda: None)
    writer.close()

    assert carried_over(journal) == [Key("eu", IdKind.U64, "5")]


def test_a_write_that_outlasts_the_bound_is_named_again(
    journal: Journal, journal_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its intent may have been closed by its age, and dealt with, before it was applied."""
    journal.replan(id_kinds=[IdKind.U64], bounds=replace(BOUNDS, request=0.0), by="test", reason="no time")
    with DualWriter(journal_url, MIGRATION) as writer:
        writer.upsert([1], source=lambda: None)

    assert [row.kind for row in rows(journal.database)] == ["intent", "change"]
    assert "give your client a deadline" in caplog.text


def test_a_journal_that_does_not_answer_keeps_writes_from_being_sent(
    writer: DualWriter, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def refuse(*args: object, **kwargs: object) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(group_commit, "admit_together", refuse)
    with pytest.raises(StorageFailed, match="disk is full"):
        writer.upsert([1], source=lambda: sent.append(1))

    assert sent == []
    monkeypatch.undo()
    writer.upsert([1], source=lambda: sent.append(1))
    assert sent == [1]


def test_the_side_to_read_may_be_remembered(writer: DualWriter, journal: Journal) -> None:
    switched(journal)

    assert writer.read_target(max_age=3600) == "source"
    assert writer.read_target() == "target"


def test_a_migration_that_was_not_planned_is_named(journal_url: str) -> None:
    with pytest.raises(NotFound, match="'nothing'"):
        DualWriter(journal_url, "nothing")


def test_our_own_clients_do_as_well_as_any(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    journal = JournalDatabase(url)
    registered(journal)
    journal.close()
    ends = [Endpoint(type="qdrant", path=tmp_path / side, collection=COLLECTION) for side in ("source", "target")]
    for end in ends:
        fill(end, Records.of(2))
    numbers = IdColumn.of(IdKind.U64, [1, 2])

    with open_target(ends[0]) as source, open_target(ends[1]) as target, DualWriter(url, MIGRATION) as writer:
        batch = source.fetch(numbers).batch
        writer.delete([1], source=lambda: source.delete(numbers.take([0])), target=lambda: target.delete(numbers))
        assert (source.count(), target.count()) == (1, 2)
        refused = writer.upsert([1, 2], source=lambda: source.upsert(batch), target=lambda: target.upsert(batch))

        assert (refused, source.count()) == ([], 2)


########
# Many writers at once
########


def test_writes_that_wait_together_share_a_transaction(
    writer: DualWriter, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    first_is_in, others_wait = threading.Event(), threading.Event()
    together = group_commit.admit_together

    def counted(journal: Journal, requests: list, *, applied: list) -> object:  # type: ignore[type-arg]
        if not sizes:
            first_is_in.set()
            others_wait.wait()
        sizes.append(len(requests))
        return together(journal, requests, applied=applied)

    monkeypatch.setattr(group_commit, "admit_together", counted)
    threads = [
        threading.Thread(target=writer.upsert, args=([number],), kwargs={"source": lambda: None}) for number in range(6)
    ]
    threads[0].start()
    first_is_in.wait()
    for thread in threads[1:]:
        thread.start()
    while len(writer._group._waiting) < 5:
        pass
    others_wait.set()
    for thread in threads:
        thread.join()
    writer.close()

    assert sizes[:2] == [1, 5]
    assert set(carried_over(journal)) == set(keys(*range(6)))


def test_what_one_transaction_fails_with_is_told_to_all_of_it(
    writer: DualWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [writer._ask([number], None)[1] for number in range(3)]

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group_commit, "admit_together", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writer._group.commit(asked[0])

    for answer in asked:
        assert isinstance(answer.exception(), Unavailable)


def test_nobody_waits_for_ever_when_giving_answers_is_interrupted(
    writer: DualWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [writer._ask([number], None)[1] for number in range(3)]

    class Interrupted(list):  # type: ignore[type-arg]
        def __getitem__(self, position: int) -> object:  # type: ignore[override]
            if position == 1:
                raise KeyboardInterrupt
            return super().__getitem__(position)

    together = group_commit.admit_together
    monkeypatch.setattr(
        group_commit,
        "admit_together",
        lambda journal, requests, applied: Interrupted(together(journal, requests, applied=applied) or ()),
    )
    with pytest.raises(KeyboardInterrupt):
        writer._group.commit(asked[0])

    assert asked[0].result(timeout=0) is not None
    for answer in asked[1:]:
        assert isinstance(answer.exception(timeout=0), Unavailable)


########
# asyncio
########


def test_an_asynchronous_writer_does_the_same(journal: Journal, journal_url: str) -> None:
    async def work() -> list[str]:
        async with AsyncDualWriter(journal_url, MIGRATION, patience=0.0, refusals=(ValueError,)) as writer:

            async def write(side: str) -> str:
                return side

            async def refuse() -> str:
                raise ValueError("no such field")

            answers = await asyncio.gather(
                *(writer.upsert([n], source=lambda: write("source"), target=lambda: write("target")) for n in range(20))
            )
            with pytest.raises(ValueError, match="no such field"):
                await writer.delete([20], source=refuse)
            control = frozen(journal, 600)
            with pytest.raises(Unavailable, match="frozen"):
                await writer.delete([21], source=refuse)
            entered(journal, State.CATCHING_UP)
            assert journal.control().epoch > control.epoch
        return answers

    assert asyncio.run(work()) == ["source"] * 20
    assert journal.lag().open == 0
    assert set(carried_over(journal)) == set(keys(*range(21)))


def test_a_cancelled_write_stays_open_only_if_it_was_sent(
    journal: Journal, journal_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with AsyncDualWriter(journal_url, MIGRATION) as writer:
            sent, admitting, go_on = asyncio.Event(), threading.Event(), threading.Event()
            together = group_commit.admit_together

            def slowly(*args: object, **kwargs: object) -> object:
                admitting.set()
                go_on.wait()
                return together(*args, **kwargs)  # type: ignore[arg-type]

            async def hang() -> None:
                sent.set()
                await asyncio.Event().wait()

            first = asyncio.ensure_future(writer.upsert([1], source=hang))
            await sent.wait()
            first.cancel()
            monkeypatch.setattr(group_commit, "admit_together", slowly)
            second = asyncio.ensure_future(writer.upsert([2], source=hang))
            await asyncio.to_thread(admitting.wait)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go_on.set()

    asyncio.run(work())

    assert len(rows(journal.database)) == 2
    assert len(rows(journal.database, APPLIED)) == 1
    assert carried_over(journal) == keys(2)


########
# The process around it
########


def test_a_writer_needs_neither_dagster_nor_arrow_nor_a_database_client(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    program = (
        "import sys\n"
        "from vectormigrate_dagster.live.dual_writer import AsyncDualWriter, DualWriter\n"
        "from vectormigrate_dagster.live.journal import Journal, JournalDatabase\n"
        "from vectormigrate_dagster.model import IdKind\n"
        f"Journal.register(JournalDatabase({url!r}), 'm', id_kinds=[IdKind.U64], by='test')\n"
        f"DualWriter({url!r}, 'm').upsert([1], source=lambda: None)\n"
        "unwanted = {'dagster', 'pyarrow', 'numpy', 'pydantic', 'qdrant_client', 'pymilvus', 'weaviate', 'pinecone'}\n"
        "sys.exit(', '.join(unwanted & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    with DualWriter(url, "m") as writer:  # the program did not close its own, and the journal knows it all
        assert writer._journal.lag().open == 0


def test_its_public_names_are_two() -> None:
    assert dual_writer.__all__ == ["AsyncDualWriter", "DualWriter"]
