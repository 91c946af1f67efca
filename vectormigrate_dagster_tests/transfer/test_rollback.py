"""Contract of a rollback: what was written is taken back, at any point of work, and nothing else is touched."""

from __future__ import annotations

import contextlib
import errno
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Refusal, Source
from vectormigrate_dagster.errors import DatabaseError, Stopped, StorageFailed
from vectormigrate_dagster.model import Batch, Dense, Id, IdKind, id_text
from vectormigrate_dagster.model.compare import Tolerance
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.transfer import OwnershipLog, Settings
from vectormigrate_dagster.transfer.rollback import Rollback, Undone
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase
from vectormigrate_dagster_tests.transfer.conftest import Pair, impatient

OTHERS = 77
"""Seed of what somebody else wrote."""


def contents(database: MemoryDatabase) -> dict[Id, bytes]:
    """Every record of a collection by its id, in 16 bytes that tell any two apart."""
    return {key: record_digests(database.get(key)).tobytes() for key in database.ids()}


@dataclass
class Undoing:
    """A pair of databases, a load that is disturbed, and its rollback."""

    pair: Pair
    folder: Path
    writers: int = 1
    tolerance: Tolerance = field(default_factory=Tolerance)

    def load(self, *, batch: int = 10, after: str | None = None, **arguments: Any) -> None:
        """Load into a collection that held records before."""
        log = OwnershipLog(self.folder / "log")
        settings = Settings(batch_records=batch, page_records=batch, writers=self.writers)
        throttle = impatient(batch_records=batch)
        list(self.pair.move(ownership=log, settings=settings, throttle=throttle, after=after, **arguments))

    def load_ours(self, *, batch: int = 10) -> None:
        """Load into a collection that this migration has made."""
        settings = Settings(batch_records=batch, page_records=batch, writers=self.writers)
        sent = SentLog(self.folder / "sent.jsonl")
        list(self.pair.move(sent=sent, settings=settings, throttle=impatient(batch_records=batch)))

    def rollback(self, *, workers: int = 5, source: MemoryDatabase | None = None, **arguments: Any) -> Rollback:
        given = source or self.pair.source
        made = {"workers": workers, "tolerance": self.tolerance, "throttle": impatient()}
        return Rollback(self.pair.target, self.pair.mapper, lambda: Source(given), **{**made, **arguments})

    def undo(self, *, after: str | None = None, **arguments: Any) -> list[Undone]:
        logs = [OwnershipLog(self.folder / "log")]
        return list(self.rollback(**arguments).logs(logs, logs, after=after))

    def undo_ours(self, *, after: str | None = None, **arguments: Any) -> list[Undone]:
        sent = SentRanges([self.folder / "sent.jsonl"])
        rollback = self.rollback(**arguments)
        return list(rollback.split(self.pair.split, lambda b: sent.contains(b.ids, b.scope), after=after))


@pytest.fixture
def undoing(pair: Pair, tmp_path: Path) -> Undoing:
    return Undoing(pair, tmp_path)


def left(checkpoints: Sequence[Undone]) -> list[str]:
    return [refusal.id for checkpoint in checkpoints for refusal in checkpoint.left]


########## What the original tool tested ##########


@pytest.mark.parametrize("ours", [True, False], ids=["a collection of ours", "beside others"])
def test_strict_boundaries(tmp_path: Path, ours: bool) -> None:
    """Stopped at 3 of 5: exactly 1 to 3 are gone, although 4 and 5 look as if we had written them."""
    pair = Pair().fill(5, start=1)
    undoing = Undoing(pair, tmp_path)
    pair.source.on_call = stop_after(3)
    with pytest.raises(DatabaseError, match="stopped"):
        undoing.load_ours(batch=1) if ours else undoing.load(batch=1)
    pair.source.on_call = lambda method: None
    assert pair.target.ids() == {1, 2, 3}
    for key in (4, 5):
        pair.target.put(pair.source.get(key))
    deleted: list[Id] = []
    watch_deletes(pair.target, deleted)
    checkpoints = undoing.undo_ours() if ours else undoing.undo()
    assert sorted(deleted) == [1, 2, 3]  # type: ignore[type-var]
    assert contents(pair.target) == {key: record_digests(pair.source.get(key)).tobytes() for key in (4, 5)}
    assert (checkpoints[-1].undone, left(checkpoints)) == (3, [])


def stop_after(pages: int) -> Callable[[str], None]:
    """Let no more pages be read."""
    read: list[str] = []

    def look(method: str) -> None:
        if method == "scan":
            read.append(method)
            if len(read) > pages:
                raise DatabaseError("stopped")

    return look


def watch_deletes(target: MemoryDatabase, deleted: list[Id]) -> None:
    delete = target.delete

    def noting(ids: Any, scope: str | None = None) -> None:
        deleted.extend(ids.to_pylist())
        delete(ids, scope)

    target.delete = noting  # type: ignore[method-assign]


@pytest.mark.parametrize("ours", [True, False], ids=["a collection of ours", "beside others"])
def test_five_workers_at_once_lose_nothing(tmp_path: Path, ours: bool) -> None:
    """Each deletion waits until five are under way: with fewer workers none would ever end."""
    pair = Pair().fill(1000)
    undoing = Undoing(pair, tmp_path)
    undoing.load_ours(batch=10) if ours else undoing.load(batch=10)
    assert pair.target.count() == 1000
    together = threading.Barrier(5)
    pair.target.on_call = lambda method: together.wait(30) and None if method == "delete" else None
    checkpoints = undoing.undo_ours() if ours else undoing.undo()
    assert pair.target.calls["delete"] == 100
    assert pair.target.ids() == set()
    assert checkpoints[-1].undone == 1000
    assert [c.undone for c in checkpoints] == sorted(c.undone for c in checkpoints)


########## What is touched ##########


def test_what_stood_there_is_as_it_was_bit_for_bit(undoing: Undoing) -> None:
    undoing.pair.target.put(make_batch([5, 15, 16, 99, 1000], seed=OTHERS))
    before = contents(undoing.pair.target)
    undoing.load(on_conflict="overwrite")
    assert len(contents(undoing.pair.target)) == 101
    checkpoints = undoing.undo()
    assert contents(undoing.pair.target) == before
    assert (checkpoints[-1].undone, left(checkpoints)) == (100, [])


def test_the_source_is_not_needed_by_a_log(undoing: Undoing) -> None:
    undoing.pair.target.put(make_batch([5, 15, 1000], seed=OTHERS))
    before = contents(undoing.pair.target)
    undoing.load(on_conflict="overwrite")
    gone = MemoryDatabase("gone")
    gone.closed = True
    assert left(undoing.undo(source=gone)) == []
    assert contents(undoing.pair.target) == before


def test_what_was_skipped_is_not_touched(undoing: Undoing) -> None:
    undoing.pair.target.put(make_batch([5, 15, 1000], seed=OTHERS))
    before = contents(undoing.pair.target)
    undoing.load(on_conflict="skip")
    undoing.undo()
    assert contents(undoing.pair.target) == before


@pytest.mark.parametrize("ours", [True, False], ids=["a collection of ours", "beside others"])
def test_h25_what_somebody_changed_since_is_theirs(undoing: Undoing, ours: bool) -> None:
    target = undoing.pair.target
    undoing.load_ours() if ours else undoing.load()
    changed = make_batch([7, 8, 500], seed=OTHERS)
    target.put(changed)
    expected = {key: record_digests(changed.take([row])).tobytes() for row, key in enumerate([7, 8, 500])}
    checkpoints = undoing.undo_ours() if ours else undoing.undo()
    assert contents(target) == expected
    assert left(checkpoints) == ["7", "8"]
    assert checkpoints[-1].undone == 98


def test_h25_a_record_that_we_overwrote_and_somebody_changed_is_theirs(undoing: Undoing) -> None:
    target = undoing.pair.target
    target.put(make_batch([5, 6], seed=OTHERS))
    undoing.load(on_conflict="overwrite")
    target.put(make_batch([5], seed=1234))
    checkpoints = undoing.undo()
    both = {5: make_batch([5], seed=1234), 6: make_batch([5, 6], seed=OTHERS).take([1])}
    assert contents(target) == {key: record_digests(record).tobytes() for key, record in both.items()}
    assert [refusal for c in checkpoints for refusal in c.left] == [Refusal("5", checkpoints[0].left[0].reason)]


def test_a_record_that_we_overwrote_and_somebody_deleted_comes_back(undoing: Undoing) -> None:
    target = undoing.pair.target
    target.put(make_batch([5], seed=OTHERS))
    before = contents(target)
    undoing.load(on_conflict="overwrite")
    target.delete(make_batch([5]).ids)
    assert left(undoing.undo()) == []
    assert contents(target) == before


def test_records_that_the_source_has_changed_since_are_still_ours_by_the_log(undoing: Undoing) -> None:
    target, source = undoing.pair.target, undoing.pair.source
    target.put(make_batch([5], seed=OTHERS))
    before = contents(target)
    undoing.load(on_conflict="overwrite")
    source.put(make_batch(range(50), seed=3))
    undoing.load(on_conflict="overwrite")  # from the beginning, as a restart does: other records under the same ids
    source.put(make_batch(range(100), seed=4))
    assert left(undoing.undo()) == []
    assert contents(target) == before


def test_without_a_log_only_what_the_source_still_tells_is_deleted(undoing: Undoing) -> None:
    target, source = undoing.pair.target, undoing.pair.source
    undoing.load_ours()
    source.put(make_batch([3], seed=3))
    source.delete(make_batch([4]).ids)
    checkpoints = undoing.undo_ours()
    assert target.ids() == {3, 4}
    assert left(checkpoints) == ["3"]  # and 4 is found when the collection is looked at before it is dropped


def test_a_target_that_changes_vectors_knows_its_records_again(pair: Pair, tmp_path: Path) -> None:
    """The log's digests are of what was sent; the source tells the rest."""
    pair.target.normalise = {""}
    undoing = Undoing(pair, tmp_path, tolerance=Tolerance(min_cosine={"": 0.9999}))
    pair.target.upsert(make_batch([5, 1000], seed=OTHERS))
    before = contents(pair.target)
    undoing.load(on_conflict="overwrite")
    pair.target.put(make_batch([8], seed=OTHERS))
    checkpoints = undoing.undo()
    assert left(checkpoints) == ["8"]
    assert pair.target.ids() == {5, 8, 1000}
    now, then = pair.target.get(5), make_batch([5], seed=OTHERS)
    assert contents(pair.target)[1000] == before[1000]
    column, given = now.vectors[""], then.vectors[""]
    assert isinstance(column, Dense)
    assert isinstance(given, Dense)
    unit = given.values / np.linalg.norm(given.values)
    assert np.allclose(column.values, unit, rtol=0, atol=1e-6)  # normalised twice: the nearest there is
    assert left(undoing.undo()) == ["8"]  # and is known to be restored


def test_a_log_of_another_partition_tells_what_was_written_again(pair: Pair, tmp_path: Path) -> None:
    """A later generation, cut otherwise, writes the same ids again; the oldest before-image wins."""
    pair.target.put(make_batch([5], seed=OTHERS))
    before = contents(pair.target)
    first, second = OwnershipLog(tmp_path / "g0001-00000"), OwnershipLog(tmp_path / "g0002-00000")
    list(pair.move(ownership=first, on_conflict="overwrite"))
    pair.source.put(make_batch(range(100), seed=3))
    second.record_again(pair.source.get(5).ids, None, record_digests(pair.source.get(5)))
    pair.target.put(pair.source.get(5))
    pair.source.put(make_batch([5], seed=4))
    logs = [OwnershipLog(tmp_path / "g0001-00000"), OwnershipLog(tmp_path / "g0002-00000")]
    rollback = Rollback(pair.target, pair.mapper, lambda: Source(pair.source), throttle=impatient())
    assert left(list(rollback.logs(logs, logs))) == []
    assert contents(pair.target) == before


########## Stop, resume, again ##########


def test_again_changes_nothing(undoing: Undoing) -> None:
    undoing.pair.target.put(make_batch([5, 1000], seed=OTHERS))
    before = contents(undoing.pair.target)
    undoing.load(on_conflict="overwrite")
    first = undoing.undo()
    calls = undoing.pair.target.calls.copy()
    again = undoing.undo()
    assert again[-1].undone == first[-1].undone == 100
    assert contents(undoing.pair.target) == before
    for method in ("upsert", "delete"):
        assert undoing.pair.target.calls[method] == calls[method]


def test_it_goes_on_after_its_checkpoint(undoing: Undoing) -> None:
    undoing.load(batch=1)
    checkpoints = undoing.undo()
    undoing.load(batch=1)
    fetched = undoing.pair.target.calls["fetch"]
    rest = undoing.undo(after=checkpoints[69].after)
    assert rest[-1].undone == 30
    assert undoing.pair.target.calls["fetch"] == fetched + 30 + 32  # the newest entries are looked at again
    assert undoing.pair.target.ids() == set(range(68))


def test_h25_what_arrives_while_a_rollback_is_dead_is_taken_back_when_it_goes_on(undoing: Undoing) -> None:
    """A killed load's last write takes effect after its entry was looked at, and the rollback is killed right then."""
    undoing.load()
    entries = [checkpoint for checkpoint in undoing.undo() if checkpoint.undone == 100]
    undoing.pair.target.put(undoing.pair.source.get(95))
    assert undoing.undo(after=entries[0].after)[-1].undone == 0
    assert undoing.pair.target.ids() == set()


def test_workers_that_need_the_source_open_it_once(pair: Pair, tmp_path: Path) -> None:
    """A folder cannot be opened a second time; five workers ask for it while the first one is still at it."""
    pair.target.normalise = {""}
    undoing = Undoing(pair, tmp_path, tolerance=Tolerance(min_cosine={"": 0.9999}))
    undoing.load()
    opened: list[Source] = []
    second = threading.Event()

    def open_source() -> Source:
        opened.append(Source(pair.source))
        if len(opened) > 1:
            second.set()
        second.wait(0.2)  # ended by the fault that is looked for
        return opened[-1]

    logs = [OwnershipLog(undoing.folder / "log")]
    made = Rollback(pair.target, pair.mapper, open_source, tolerance=undoing.tolerance, throttle=impatient())
    assert left(list(made.logs(logs, logs))) == []
    assert pair.target.ids() == set()
    assert len(opened) == 1


def test_a_stop_ends_it_between_two_batches(undoing: Undoing) -> None:
    undoing.load()
    rollback = undoing.rollback(workers=1, stop=lambda: undoing.pair.target.calls["delete"] >= 3)
    logs = [OwnershipLog(undoing.folder / "log")]
    with pytest.raises(Stopped):
        list(rollback.logs(logs, logs))
    assert 30 <= 100 - undoing.pair.target.count() <= 50
    assert undoing.undo()[-1].undone == 100
    assert undoing.pair.target.ids() == set()


class Killed(Exception):
    """The process is gone."""


@pytest.mark.parametrize("seed", range(40))
def test_h25_killed_in_load_and_rollback_the_target_is_as_it_was(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(seed)
    pair = Pair().fill(100)
    pair.target.put(make_batch([int(key) for key in chance.choice(150, size=30, replace=False)], seed=OTHERS))
    before = contents(pair.target)
    undoing = Undoing(pair, tmp_path, writers=int(chance.integers(1, 4)))
    on_conflict = str(chance.choice(["skip", "overwrite"]))
    for _ in range(int(chance.integers(1, 4))):
        killed_somewhere(pair.target, chance, monkeypatch, lambda: undoing.load(on_conflict=on_conflict))
    for _ in range(int(chance.integers(0, 3))):
        killed_somewhere(pair.target, chance, monkeypatch, undoing.undo)
    pair.target.faults.clear()
    checkpoints = undoing.undo()
    assert contents(pair.target) == before
    assert left(checkpoints) == []


def killed_somewhere(
    target: MemoryDatabase, chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]
) -> None:
    """Do some work that dies at a call to the target, before or after it took effect, or at a write to our own disk."""
    method = str(chance.choice(["fetch", "upsert", "delete", "fsync"]))
    at = target.calls[method] + int(chance.integers(0, 12))
    target.faults[:] = [Fault(method, Killed(), at=at, times=None, after_commit=bool(chance.integers(0, 2)))]
    with monkeypatch.context() as patch:
        if method == "fsync":
            left_over = iter(range(int(chance.integers(0, 24))))

            def fsync(descriptor: int) -> None:
                if next(left_over, None) is None:
                    raise Killed

            patch.setattr("os.fsync", fsync)
        with contextlib.suppress(Killed):
            work()


def test_a_line_that_a_full_disk_has_cut_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch was not sent; but others of the same process are, once there is room again."""
    path = tmp_path / "g0001-00000.jsonl"
    log = SentLog(path)
    log.record(make_batch([1]).ids, None)

    class Full(io.FileIO):
        def write(self, line: Any, /) -> int:
            super().write(bytes(line)[:12])
            raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", Full)
        with pytest.raises(StorageFailed, match="nothing was sent"):
            log.record(make_batch([2]).ids, None)
    log.record(make_batch([3]).ids, None)
    assert SentRanges([path]).contains(make_batch([1, 2, 3]).ids, None).tolist() == [True, False, True]


def test_ranges_of_what_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "g0001-00000.jsonl"
    log = SentLog(path)
    for first, last in ((0, 9), (20, 29), (10, 19)):
        log.record(make_batch(range(first, last + 1)).ids, None)
    with path.open("ab") as file:
        file.write(b'{"kind": "u64", "sco')  # killed in the middle of a line
    SentLog(path).record(make_batch(["b", "c"], kind=IdKind.TEXT).ids, "s")
    ranges = SentRanges([path])
    assert ranges.contains(make_batch([0, 9, 15, 29, 30, 2**60]).ids, None).tolist() == [True] * 4 + [False] * 2
    assert ranges.contains(make_batch([0]).ids, "s").tolist() == [False]
    texts: Batch = make_batch(["a", "b", "bb", "c", "d"], kind=IdKind.TEXT)
    assert ranges.contains(texts.ids, "s").tolist() == [False, True, True, True, False]
    assert not SentRanges([])
    assert id_text(texts.ids[0]) == "a"
