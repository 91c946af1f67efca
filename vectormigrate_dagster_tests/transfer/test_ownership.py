"""Contract of the ownership log: on disk before a write, the first entry wins, a crash leaves it usable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster_tests.batches import make_batch


def column(*ids: int) -> IdColumn:
    return IdColumn.of(IdKind.U64, ids)


def test_entries_survive_a_restart(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path / "p")
    log.record_absent(column(1, 2), None)
    log.record_before(make_batch([3], seed=1))
    for reader in (log, OwnershipLog(tmp_path / "p")):
        assert reader.wrote(column(1, 2, 3, 4), None).tolist() == [True, True, True, False]
        assert reader.wrote(column(1), "other").tolist() == [False]
        assert [batch.ids.to_pylist() for batch in reader.absent()] == [[1, 2]]
        (image,) = reader.before_images()
        assert compare(make_batch([3], seed=1), image).equal


def test_the_first_entry_for_an_id_wins(tmp_path: Path) -> None:
    OwnershipLog(tmp_path).record_absent(column(1), None)
    log = OwnershipLog(tmp_path)
    log.record_before(make_batch([1, 2], seed=5))
    log.record_absent(column(2, 3), None)
    assert [batch.ids.to_pylist() for batch in log.before_images()] == [[2]]
    assert [batch.ids.to_pylist() for batch in log.absent()] == [[1], [3]]


def test_an_entry_that_is_all_known_writes_nothing(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path)
    log.record_absent(column(1), None)
    before = sorted(tmp_path.iterdir())
    log.record_absent(column(1), None)
    log.record_absent(column(), None)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_made_outlives_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose name is in a folder that was not synced is gone, however often it was synced itself."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    OwnershipLog(tmp_path / "home" / "ownership" / "p").record_absent(column(1), None)
    for folder in ("home", "home/ownership", "home/ownership/p"):
        assert tmp_path / folder in synced


def test_an_unfinished_entry_does_not_count(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path)
    log.record_absent(column(1), None)
    (tmp_path / "00000001.absent.unfinished").write_bytes(b"half")
    log = OwnershipLog(tmp_path)
    assert log.wrote(column(1, 2), None).tolist() == [True, False]
    log.record_absent(column(2), None)
    assert OwnershipLog(tmp_path).wrote(column(1, 2), None).tolist() == [True, True]


def test_a_torn_last_entry_does_not_count_and_its_number_is_used_again(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path)
    log.record_absent(column(1), None)
    log.record_absent(column(2), None)
    last = tmp_path / "00000001.absent.parquet"
    last.write_bytes(last.read_bytes()[:-7])
    log = OwnershipLog(tmp_path)
    assert log.wrote(column(1, 2), None).tolist() == [True, False]
    log.record_absent(column(2), None)
    assert OwnershipLog(tmp_path).wrote(column(1, 2), None).tolist() == [True, True]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_log_that_is_only_read_changes_nothing(tmp_path: Path) -> None:
    OwnershipLog(tmp_path / "none").wrote(column(1), None)
    assert not (tmp_path / "none").exists()
    folder = tmp_path / "p"
    log = OwnershipLog(folder)
    log.record_absent(column(1), None)
    log.record_absent(column(2), None)
    last = folder / "00000001.absent.parquet"
    last.write_bytes(last.read_bytes()[:-7])
    (folder / "00000002.absent.unfinished").write_bytes(b"half")
    before = contents(folder)
    reader = OwnershipLog(folder)
    assert reader.wrote(column(1, 2), None).tolist() == [True, False]
    assert [batch.ids.to_pylist() for batch in reader.absent()] == [[1]]
    assert list(reader.before_images()) == []
    assert contents(folder) == before
    reader.record_before(make_batch([2]))
    assert sorted(contents(folder)) == ["00000000.absent.parquet", "00000001.before.parquet"]
    assert OwnershipLog(folder).wrote(column(1, 2), None).tolist() == [True, True]


def test_a_reader_does_not_disturb_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = OwnershipLog(tmp_path)
    log.record_absent(column(1), None)
    fsync = os.fsync

    def look_in(descriptor: int) -> None:
        assert OwnershipLog(tmp_path).wrote(column(1), None).tolist() == [True]
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", look_in)
    log.record_absent(column(2), None)
    assert OwnershipLog(tmp_path).wrote(column(1, 2), None).tolist() == [True, True]


def test_a_damaged_entry_before_the_last_is_an_error(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path)
    log.record_absent(column(1), None)
    log.record_absent(column(2), None)
    (tmp_path / "00000000.absent.parquet").write_bytes(b"damaged")
    with pytest.raises(StorageFailed, match=r"00000000\.absent\.parquet"):
        OwnershipLog(tmp_path)


def test_h21_a_full_disk_is_said_and_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = OwnershipLog(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageFailed, match="nothing was sent"):
            log.record_absent(column(1), None)
    assert log.wrote(column(1), None).tolist() == [False]
    assert OwnershipLog(tmp_path).wrote(column(1), None).tolist() == [False]
    log.record_absent(column(1), None)
    assert log.wrote(column(1), None).tolist() == [True]


def test_h21_a_full_disk_after_the_target_has_refused_does_not_say_that_nothing_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = OwnershipLog(tmp_path)
    stood = make_batch([1], seed=1)
    log.record_before(stood)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageFailed, match="so what the target has refused is noted when it is sent again"):
            log.record_kept(stood)
    log.record_kept(stood)
    assert list(log.entries()) == []


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("no folder")
    with pytest.raises(StorageFailed, match="cannot be opened"):
        OwnershipLog(tmp_path / "p")


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 9), min_size=1), st.booleans()), max_size=6))
def test_the_log_is_what_was_first_said(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[bool, set[int], bool]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = OwnershipLog(folder)
    first: dict[int, bool] = {}
    for is_absent, ids, restart in entries:
        log = OwnershipLog(folder) if restart else log
        if is_absent:
            log.record_absent(column(*sorted(ids)), None)
        else:
            log.record_before(make_batch(sorted(ids)))
        for key in ids:
            first.setdefault(key, is_absent)
    reopened = OwnershipLog(folder)
    assert reopened.wrote(column(*range(10)), None).tolist() == [key in first for key in range(10)]
    assert {key for batch in reopened.absent() for key in batch.ids.to_pylist()} == {k for k, a in first.items() if a}
    images = {key for batch in reopened.before_images() for key in batch.ids.to_pylist()}
    assert images == {k for k, a in first.items() if not a}


def test_what_another_process_records_since_is_taken_in(tmp_path: Path) -> None:
    writing = OwnershipLog(tmp_path)
    reading = OwnershipLog(tmp_path)
    writing.record_absent(column(1), None)
    reading.refresh()
    writing.record_before(make_batch([2]))
    assert reading.wrote(column(1, 2), None).tolist() == [True, False]
    reading.refresh()
    assert reading.wrote(column(1, 2), None).tolist() == [True, True]
    assert reading.overwritten == 1
