"""Checks that memory holds a few of the ids that have to be looked at again, however many there are."""

from __future__ import annotations

import resource
import tempfile
import tracemalloc
from functools import partialmethod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.errors import Stopped, StorageFailed
from vectormigrate_dagster.live.journal import Journal, JournalDatabase, Key
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.live.journal.spooled import SpooledKeys, spooled
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.live.switching import WHO, Switching

_KEYS = st.builds(Key, st.none() | st.text(), st.sampled_from(IdKind), st.text())


@given(st.lists(_KEYS), st.integers(1, 5))
def test_keys_come_back_as_they_were_and_as_often_as_asked(keys: list[Key], size: int) -> None:
    with spooled(keys) as kept:
        assert len(kept) == len(keys)
        blocks = list(kept.blocks(size))
        assert [key for block in blocks for key in block] == keys
        assert all(len(block) == size for block in blocks[:-1])
        assert list(kept.blocks(size)) == blocks


def test_a_folder_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageFailed, match=r"gone'.*TMPDIR"), spooled([]):
        pass


@pytest.mark.parametrize("room", [10, 4_096, 100_000])
def test_a_disk_that_is_full_is_named_however_much_was_written_before(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no room is tried once more when the file is closed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keys = [Key(None, IdKind.U64, str(number)) for number in range(10_000)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(StorageFailed, match=r"too large.*TMPDIR"), spooled(keys):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_many_doubtful_keys_cost_no_more_memory_than_few(journal_url: str) -> None:
    def peak(count: int) -> int:
        database = JournalDatabase(journal_url)
        journal = Journal.register(database, f"of {count}", id_kinds=[IdKind.U64], by="tester")
        generations = Generations(journal)
        generations.finish(generations.begin("all"), [])
        for start in range(0, count, 1_000):
            journal.note([Key(None, IdKind.U64, str(number)) for number in range(start, start + 1_000)], kind="change")
        seen = generations.doubtful(["all"])
        assert generations.count(seen) == count
        tracemalloc.start()
        with generations.keys(seen) as keys:
            assert sum(map(len, keys.blocks(1_000))) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        database.close()
        return most

    peak(1_000)  # imports, and what is kept of a statement
    assert peak(20_000) < 1.5 * peak(2_000)


def test_what_is_looked_at_while_writes_are_frozen_can_be_ended_at_every_block(
    switching: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpooledKeys, "blocks", partialmethod(SpooledKeys.blocks, 1))
    verification, waits = switching.cutover().verification, list[float]()
    verification.generation()
    for key in range(4):
        switching.write(key, 5)
    switching.catch_up().drain(switching.clock.now + 600.0)
    frozen = switching.journal.freeze(since=switching.control, seconds=600.0, **WHO)
    switching.clock.sleep(300.0)
    doubtful = verification.quiet(frozen)
    assert doubtful is not None

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:  # reads have settled, and two keys were looked at
            raise Stopped("stopped")

    monkeypatch.setattr(verification, "_sleep", sleep)
    with pytest.raises(Stopped):
        verification.recheck(frozen, doubtful)


def test_every_block_is_looked_at_and_what_differs_in_any_is_touched(
    switching: Switching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpooledKeys, "blocks", partialmethod(SpooledKeys.blocks, 2))
    sizes, differing = [], Verification._differing

    def watched(self: Verification, keys: list[Key]) -> list[Key]:
        sizes.append(len(keys))
        return differing(self, keys)

    monkeypatch.setattr(Verification, "_differing", watched)
    verification = switching.cutover().verification
    verification.generation()
    for key in range(7):
        switching.write(key, 5)
    switching.catch_up().drain(switching.clock.now + 600.0)
    for key in (0, 3, 6):
        switching.stores["target"].put(make_batch([key], seed=77))

    looked = verification.settle()

    assert ({key.text for key in looked.different}, looked.count, max(sizes)) == ({"0", "3", "6"}, 3, 2)
    switching.catch_up().drain(switching.clock.now + 600.0)
    switching.assert_moved()
    again = verification.settle()
    assert (again.different, again.doubtful) == ((), 0)
