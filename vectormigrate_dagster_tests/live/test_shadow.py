"""Checks shadow reads: the application gets the primary's answer, and a cutover can wait for both sides to agree."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vectormigrate_dagster.live.journal import Journal, JournalDatabase, State, shadows
from vectormigrate_dagster.live.shadow import ShadowReader, shadow_gate, shadowed
from vectormigrate_dagster.model import IdKind

MIGRATION = "moving"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'journal.db'}"


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    database = JournalDatabase(url)
    yield Journal.register(database, MIGRATION, id_kinds=[IdKind.U64], by="tester")
    database.close()


def read(reader: ShadowReader, source: list[int], target: list[int] | Exception) -> list[int]:
    """Send a query, and wait until it was compared."""

    def ask_target() -> list[int]:
        if isinstance(target, Exception):
            raise target
        return target

    answer = reader.search(source=lambda: source, target=ask_target, ids=lambda found: found)
    if reader._busy is not None:  # nobody else needs to wait for it
        reader._busy.result()
    return answer


def test_the_application_gets_the_primarys_answer_whatever_the_other_side_says(url: str, journal: Journal) -> None:
    with ShadowReader(url, MIGRATION, fraction=1.0) as reader:
        assert read(reader, [1, 2, 3, 4], [4, 3, 2, 9]) == [1, 2, 3, 4]
        assert read(reader, [1, 2], RuntimeError("the target is gone")) == [1, 2]
        assert read(reader, [], []) == []

    found = shadowed(journal)

    assert (found.reads, found.failed, found.worst) == (3, 1, 0.0)
    assert found.overlap == pytest.approx((0.75 + 0.0 + 1.0) / 3)
    assert "3 shadow reads have 58.3% of their answers in common" in str(found)


def test_only_a_fraction_is_sent_to_both_sides(url: str, journal: Journal) -> None:
    with ShadowReader(url, MIGRATION, fraction=0.2, seed=1) as reader:
        for _ in range(100):
            read(reader, [1], [1])

    assert 5 <= shadowed(journal).reads <= 40


def test_the_application_never_waits_for_the_other_side(url: str, journal: Journal) -> None:
    free = threading.Event()

    def hang() -> list[int]:
        free.wait()
        return [1]

    with ShadowReader(url, MIGRATION, fraction=1.0) as reader:
        for _ in range(3):
            assert reader.search(source=lambda: [1], target=hang, ids=lambda found: found) == [1]
        free.set()

    assert shadowed(journal).reads == 1


def test_after_the_cutover_the_target_answers_and_counting_begins_anew(url: str, journal: Journal) -> None:
    with ShadowReader(url, MIGRATION, fraction=1.0) as reader:
        read(reader, [1], [2])
    frozen = journal.freeze(since=journal.control(), seconds=60.0, by="tester", reason="tested")
    journal.verified(frozen)
    assert journal.switch(since=frozen, by="tester", reason="tested").state is State.SWITCHED

    with ShadowReader(url, MIGRATION, fraction=1.0) as reader:
        assert read(reader, [1], [2]) == [2]

    assert shadowed(journal).reads == 1


def test_the_gate_wants_enough_reads_and_enough_in_common(url: str, journal: Journal) -> None:
    def blocked(reads: int, overlap: float) -> list[str]:
        return list(shadow_gate(journal, reads=reads, min_overlap=overlap)())

    assert blocked(0, 1.0) == []
    assert "0 of 2 shadow reads" in blocked(2, 0.5)[0]
    with ShadowReader(url, MIGRATION, fraction=1.0) as reader:
        read(reader, [1, 2], [1, 2])
        read(reader, [1, 2], [1, 3])
    assert blocked(2, 0.7) == []
    assert "at least 80.0% are asked for" in blocked(2, 0.8)[0]


def test_the_newest_are_kept(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "KEPT", 5)
    with journal.database.transaction() as connection:
        for number in range(8):
            seen = shadows.Shadow(primary="source", k=number, overlap=1.0, primary_seconds=0.0, other_seconds=0.0)
            shadows.add(connection, MIGRATION, seen, now=float(number))
        kept = [one.k for one in shadows.read(connection, MIGRATION, primary="source", since=0.0)]

    assert kept == [3, 4, 5, 6, 7]
