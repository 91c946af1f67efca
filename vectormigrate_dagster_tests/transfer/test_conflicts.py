"""Contract of `on_conflict` with an ownership log: somebody else's records are safe, ours are recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import StorageFailed, TargetNotEmpty, Unavailable
from vectormigrate_dagster.model import Id, IdColumn, IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer import OnConflict, OwnershipLog
from vectormigrate_dagster.transfer.rollback import Rollback
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault
from vectormigrate_dagster_tests.transfer.conftest import Pair, assert_moved

FOREIGN = [5, 15, 16, 99]


@pytest.fixture
def shared(pair: Pair) -> Pair:
    """A pair whose target holds four records of somebody else under ids of ours, and one under another id."""
    pair.target.put(make_batch([*FOREIGN, 1000], seed=7))
    return pair


def test_skip_leaves_them_alone_and_counts_them(shared: Pair, tmp_path: Path) -> None:
    checkpoints = list(shared.move(on_conflict="skip", ownership=OwnershipLog(tmp_path), verify_every=1))
    assert (checkpoints[-1].acknowledged, checkpoints[-1].skipped) == (96, 4)
    assert [checkpoint.skipped for checkpoint in checkpoints[:2]] == [1, 3]
    foreign = make_batch([*FOREIGN, 1000], seed=7)
    for row, key in enumerate([*FOREIGN, 1000]):
        assert compare(foreign.take([row]), shared.target.get(key)).equal
    assert shared.target.count() == 101


def test_a_page_that_is_skipped_entirely_moves_the_checkpoint(pair: Pair, tmp_path: Path) -> None:
    pair.target.put(make_batch(range(100), seed=7))
    checkpoints = list(pair.move(on_conflict="skip", ownership=OwnershipLog(tmp_path), verify_every=1))
    assert (checkpoints[-1].after, checkpoints[-1].acknowledged, checkpoints[-1].skipped) == ("99", 0, 100)
    assert pair.target.calls["upsert"] == 0


def test_fail_names_them_and_writes_nothing_of_that_page(shared: Pair, tmp_path: Path) -> None:
    with pytest.raises(TargetNotEmpty, match=r"holds 1 of the records .*'5'"):
        list(shared.move(on_conflict="fail", ownership=OwnershipLog(tmp_path)))
    assert 4 not in shared.target.ids()


def test_overwrite_keeps_before_images(shared: Pair, tmp_path: Path) -> None:
    checkpoints = list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    assert (checkpoints[-1].acknowledged, checkpoints[-1].skipped) == (100, 0)
    images = {
        batch.ids[row]: batch.take([row])
        for batch in OwnershipLog(tmp_path).before_images()
        for row in range(len(batch))
    }
    assert sorted(images) == FOREIGN  # type: ignore[type-var]
    foreign = make_batch([*FOREIGN, 1000], seed=7)
    for row, key in enumerate(FOREIGN):
        assert compare(foreign.take([row]), images[key]).equal
        assert compare(shared.source.get(key), shared.target.get(key)).equal


@pytest.mark.parametrize("on_conflict", ["skip", "overwrite", "fail"])
def test_after_a_crash_our_own_records_are_ours(pair: Pair, tmp_path: Path, on_conflict: str) -> None:
    pair.target.faults.append(Fault("upsert", Unavailable("killed"), at=4, times=None, after_commit=True))
    with pytest.raises(Unavailable):
        list(pair.move(on_conflict=on_conflict, ownership=OwnershipLog(tmp_path)))
    pair.target.faults.clear()
    assert pair.target.ids() >= set(range(50))
    # a resume from the very beginning meets 50 records of ours
    checkpoints = list(pair.move(on_conflict=on_conflict, ownership=OwnershipLog(tmp_path)))
    assert (checkpoints[-1].acknowledged, checkpoints[-1].skipped) == (100, 0)
    assert list(OwnershipLog(tmp_path).before_images()) == []


def test_the_log_is_written_before_the_target(pair: Pair, tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path)

    def check(method: str) -> None:
        if method == "upsert":
            reopened = OwnershipLog(tmp_path)
            known = {key for batch in reopened.absent() for key in batch.ids.to_pylist()}
            assert known >= {10 * (pair.target.calls["upsert"] - 1) + i for i in range(10)}

    pair.target.on_call = check
    assert list(pair.move(ownership=log))[-1].acknowledged == 100


def test_h21_without_a_log_entry_nothing_is_sent(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    log = OwnershipLog(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFailed, match="nothing was sent"):
        list(pair.move(ownership=log))
    assert pair.target.ids() == set()


def test_a_created_collection_needs_no_look_up(pair: Pair) -> None:
    list(pair.move())
    assert pair.target.calls["fetch"] == 0


@pytest.mark.parametrize("on_conflict", ["fail", "skip", "overwrite"])
def test_what_a_re_sync_of_ours_has_written_meanwhile_is_no_conflict(
    pair: Pair, tmp_path: Path, on_conflict: OnConflict
) -> None:
    catching_up = OwnershipLog(tmp_path / "changes")

    class Together(OwnershipLog):
        def wrote(self, ids: IdColumn, scope: str | None) -> Mask:
            return super().wrote(ids, scope) | catching_up.wrote(ids, scope)

    def catch_up(method: str) -> None:
        if method == "fetch":
            pair.target.on_call = lambda method: None
            catching_up.record_absent(IdColumn.of(IdKind.U64, [3]), None)
            pair.target.put(make_batch([3], seed=7))

    pair.target.on_call = catch_up
    log = Together(tmp_path / "split")
    list(pair.move(on_conflict=on_conflict, ownership=log))
    assert_moved(pair)
    assert log.overwritten == 0


@pytest.mark.parametrize("killed", [False, True])
def test_what_a_refused_record_was_to_overwrite_stays_somebody_elses(
    shared: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    shared.target.refuse = refusing(5, 20)
    if killed:  # between the refusal and its entry; whoever goes on finds the id known
        monkeypatch.setattr(OwnershipLog, "record_kept", lambda *_: (_ for _ in ()).throw(StorageFailed("killed")))
        with pytest.raises(StorageFailed, match="killed"):
            list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
        monkeypatch.undo()
    list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    log = OwnershipLog(tmp_path)
    assert log.wrote(IdColumn.of(IdKind.U64, [5, 15, 20]), None).tolist() == [False, True, True]
    assert (log.overwritten, compare(make_batch(FOREIGN, seed=7).take([0]), shared.target.get(5)).equal) == (3, True)

    shared.target.refuse = refusing()
    theirs = make_batch([5], seed=8)
    shared.target.put(theirs)  # its owner has changed it
    list(shared.move(on_conflict="overwrite", ownership=log))
    log = OwnershipLog(tmp_path)
    assert (log.wrote(theirs.ids, None).tolist(), log.overwritten) == ([True], 4)
    done = list(Rollback(shared.target, shared.mapper, lambda: Source(shared.source)).logs([log], [log]))
    assert not [refusal for one in done for refusal in one.left]
    assert shared.target.ids() == {*FOREIGN, 1000}
    assert compare(theirs, shared.target.get(5)).equal


def test_what_was_overwritten_before_it_was_refused_is_ours(shared: Pair, tmp_path: Path) -> None:
    list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    shared.target.refuse = refusing(5)
    list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    assert OwnershipLog(tmp_path).overwritten == 4


def test_a_late_read_does_not_make_ours_somebody_elses(
    shared: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    ours, theirs = shared.target.get(5), make_batch(FOREIGN, seed=7).take([0])
    shared.target.put(theirs)  # what is read until it is waited for
    monkeypatch.setattr(shared.target, "wait_visible", lambda: shared.target.put(ours))
    shared.target.refuse = refusing(5)
    list(shared.move(on_conflict="overwrite", ownership=OwnershipLog(tmp_path)))
    assert OwnershipLog(tmp_path).overwritten == 4


def refusing(*keys: int) -> Callable[[Id], str | None]:
    return lambda key: "it is not liked" if key in keys else None
