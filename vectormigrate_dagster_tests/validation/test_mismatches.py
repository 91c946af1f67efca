"""Contract of the mismatch file: every finding, bounded memory, and no file that is only half there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vectormigrate_dagster.model import IdColumn, IdKind
from vectormigrate_dagster.model.digests import DigestSet, digests
from vectormigrate_dagster.validation.mismatches import (
    Mismatch,
    MismatchKind,
    MismatchWriter,
    note_different,
    read_mismatches,
)


def _mismatch(number: int, kind: MismatchKind = MismatchKind.MISSING) -> Mismatch:
    return Mismatch(kind=kind, id=str(number), id_kind="u64", where="record", expected="present", actual="missing")


FULL = Mismatch(
    kind=MismatchKind.DIFFERENT,
    id="a",
    id_kind="text",
    scope="blue",
    source_id="7",
    source_id_kind="u64",
    source_scope="red",
    where="field 'x'",
    expected="1",
    actual="1.0",
    detail="expected int, found float",
    promised_digest=bytes(range(16)),
    found_digest=bytes(16),
)


def test_everything_comes_back_in_order(tmp_path: Path) -> None:
    written = [FULL, *(_mismatch(number, kind) for number, kind in enumerate(MismatchKind))]
    with MismatchWriter(tmp_path / "deep" / "a.parquet") as writer:
        writer.add(written[:2])
        writer.add(written[2:])
    assert list(read_mismatches(tmp_path / "deep" / "a.parquet")) == written
    assert writer.count == len(written)


def test_more_findings_than_are_held_at_a_time(tmp_path: Path) -> None:
    with MismatchWriter(tmp_path / "a.parquet") as writer:
        for number in range(10_000):
            writer.add([_mismatch(number)])
            assert len(writer._waiting) < 5000
    assert [found.id for found in read_mismatches(tmp_path / "a.parquet")] == [str(number) for number in range(10_000)]


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    for name, number in (("b", 2), ("a", 1)):
        with MismatchWriter(tmp_path / f"{name}.parquet") as writer:
            writer.add([_mismatch(number)])
    assert [found.id for found in read_mismatches(tmp_path)] == ["1", "2"]


def test_ids_that_differ_are_told_from_all_others() -> None:
    kinds = [MismatchKind.DIFFERENT, MismatchKind.MISSING, MismatchKind.EXTRA, MismatchKind.DUPLICATE]
    known = DigestSet()
    note_different(known, (_mismatch(number, kinds[number % 4]) for number in range(10_000)))
    ids = IdColumn.of(IdKind.U64, range(10_000))
    assert known.contains(digests(ids, None)).tolist() == [number % 4 == 0 for number in range(10_000)]
    assert not known.contains(digests(ids, "blue")).any()


def test_no_findings_are_an_empty_file(tmp_path: Path) -> None:
    with MismatchWriter(tmp_path / "a.parquet"):
        pass
    assert not list(read_mismatches(tmp_path / "a.parquet"))


def test_an_interrupted_validation_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Mismatch]:
        yield _mismatch(1)
        raise RuntimeError

    with pytest.raises(RuntimeError), MismatchWriter(tmp_path / "a.parquet") as writer:
        writer.add(broken())
    assert not list(tmp_path.iterdir())


def test_reading_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_mismatches(tmp_path / "a.parquet"))
