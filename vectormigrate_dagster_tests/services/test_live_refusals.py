"""Checks that a record which cannot be moved is judged by whoever has looked at it last: counted once, and listed.

The load refuses some, the application mends, deletes or breaks records later; a full validation, a sample and the way
to a cutover know of it, and people find what is left in a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.cli.changes import _show_caught
from vectormigrate_dagster.databases import Endpoint, Refusal
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.journal import known_journal
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.live import catch_up, report_changes
from vectormigrate_dagster.services.migrate import migrate
from vectormigrate_dagster.services.models import ValidationDocument
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.polling import poll
from vectormigrate_dagster.services.repair import repair
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.validate import validate
from vectormigrate_dagster.validation import Exceptions
from vectormigrate_dagster_tests.harness import COLLECTION, DIM, ID, Records, Workplace, arrived, fill
from vectormigrate_dagster_tests.services.conftest import context_of

COUNT = 40
LARGE = {"text": "x" * 70_000}
"""What no record of the target can hold."""


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ids whose records the target refuses, though it could hold them."""
    ids: set[int] = set()
    upsert = Milvus.upsert

    def choosy(self: Milvus, batch: Batch) -> list[Refusal]:
        values = batch.ids.to_pylist()
        kept = batch.take([row for row, value in enumerate(values) if value not in ids])
        refused = [Refusal(str(value), "it is not liked") for value in values if value in ids]
        return [*refused, *(upsert(self, kept) if len(kept) else [])]

    monkeypatch.setattr(Milvus, "upsert", choosy)
    return ids


@pytest.fixture
def living(tmp_path: Path) -> Workplace:
    """A migration of 40 records, of two partitions, whose source the test may write to."""
    source = Endpoint(type="qdrant", path=tmp_path / "source", collection=COLLECTION)
    fill(source, Records.of(COUNT))
    place = Workplace.make(tmp_path, source, "milvus")
    place.write(transfer={"partition_records": 20}, validation={"search": {"queries": 0}})
    return place


def write(place: Workplace, number: int, payload: dict[str, Any] | None = None) -> None:
    """What an application does: insert or update a record of the source."""
    with databases.open_target(place.source) as source:
        row = {**Records.payload(number), **(payload or {})}
        vectors = {"embedding": Dense(np.full((1, DIM), number, np.float32))}
        source.upsert(Batch(IdColumn.of(IdKind.U64, [number]), None, vectors, [row]))


def delete(place: Workplace, number: int) -> None:
    with databases.open_target(place.source) as source:
        source.delete(IdColumn.of(IdKind.U64, [number]))


def known(context: Context, keys: list[str] | None = None) -> Exceptions:
    """What is excused, over some partitions or all."""
    migration = context.migration(ID)
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        log.refresh()
        with known_journal(instance, migration) as journal:
            return exceptions_of(log, log.require_plan(), keys, journal=journal)


def keys_of(context: Context) -> list[str]:
    with context.instance() as instance:
        return list(MigrationLog(instance, ID).require_plan().keys)


def both_pass(context: Context) -> Iterator[ValidationDocument]:
    """A full validation and one of a sample, which have passed."""
    for found in (validate(context, ID, full=True, again=True), validate(context, ID)):
        assert found.passed, [tier.summary for tier in found.tiers]
        yield found


def listed(context: Context) -> dict[str, tuple[str, str]]:
    """What the list for people says: id -> outcome, reason."""
    path = context.unlike(ID)
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {line["id"]: (line["outcome"], line["reason"]) for line in lines}


def test_what_the_load_refused_counts_no_more_once_it_is_mended_or_gone(living: Workplace, refusing: set[int]) -> None:
    context = context_of(living)
    plan(context, ID)
    refusing |= {3, 5}
    write(living, 27, LARGE)
    write(living, 29, LARGE)
    assert migrate(context, ID).refused == 4
    for found in both_pass(context):
        assert "40 in the source - 4 refused" in found.tiers[0].summary

    refusing.clear()
    for number in (3, 27):
        write(living, number)
    for number in (5, 29):
        delete(living, number)
    report_changes(context, ID, [3, 5, 27, 29])
    assert catch_up(context, ID).records == {"repaired": 2, "gone": 2}
    for found in both_pass(context):
        assert "the target holds 38 records, 38 were expected: 38 in the source" in found.tiers[0].summary
    assert (known(context).refused, known(context).refused_ids) == (0, frozenset())
    assert (status(context, ID).live.unlike, listed(context)) == (0, {})
    assert status(context, ID).refused == 0

    # It is compared again, so what is wrong with it is found.
    with databases.open_target(living.target) as target:
        target.delete(IdColumn.of(IdKind.I64, [3]))
    assert not validate(context, ID, full=True, again=True).passed


def test_what_catching_up_refuses_is_counted_once_and_listed_until_it_is_mended(
    living: Workplace, refusing: set[int], capsys: pytest.CaptureFixture[str]
) -> None:
    context = context_of(living)
    plan(context, ID)
    refusing |= {3, 5}
    assert migrate(context, ID).refused == 2
    refusing |= {25}
    write(living, 5)  # still refused, by whoever looks
    write(living, 25)
    write(living, 27, LARGE)
    report_changes(context, ID, [5, 25, 27])
    done = catch_up(context, ID)
    assert (done.records, done.live.unlike, done.unlike_file) == ({"refused": 3}, 3, str(context.unlike(ID)))
    _show_caught(done)
    assert status(context, ID).refused == 4  # 3 is the load's, 5 is of both, 25 and 27 are of catching up
    assert f"3 records are not alike on both sides; listed in {context.unlike(ID)}" in capsys.readouterr().out
    found = listed(context)
    assert found.keys() == {"5", "25", "27"}
    assert (found["25"], "70000 bytes" in found["27"][1]) == (("refused", "it is not liked"), True)
    for passed in both_pass(context):
        assert "40 in the source - 4 refused" in passed.tiers[0].summary
    assert known(context).refused_ids == {(None, "3"), (None, "5"), (None, "25"), (None, "27")}
    first, second, *_ = (known(context, [key]) for key in keys_of(context))
    assert (first.refused, first.refused_ids) == (2, frozenset({(None, "3"), (None, "5")}))
    assert (second.refused, second.refused_ids) == (2, frozenset({(None, "25"), (None, "27")}))

    refusing -= {5, 25}
    write(living, 5)
    write(living, 25)
    delete(living, 27)
    report_changes(context, ID, [5, 25, 27])
    assert catch_up(context, ID).records == {"repaired": 2, "gone": 1}
    assert (listed(context), context.unlike(ID).exists()) == ({}, False)
    assert status(context, ID).refused == 1
    for passed in both_pass(context):
        assert "39 in the source - 1 refused" in passed.tiers[0].summary
    assert {number for number, _, _ in arrived(living.target)} == {*range(1, COUNT + 1)} - {3, 27}


def test_a_sweep_finds_what_was_refused_and_is_mended_without_a_word(living: Workplace, refusing: set[int]) -> None:
    """Nobody else tells of it, and any comparison before the cutover excuses it."""
    context = context_of(living)
    plan(context, ID)
    refusing |= {3, 5}
    write(living, 27, LARGE)
    assert migrate(context, ID).refused == 3
    refusing -= {3}
    write(living, 3)
    write(living, 27)
    assert poll(context, ID, sweep=True).noted == 3
    assert catch_up(context, ID).records == {"repaired": 2, "refused": 1}
    assert {number for number, _, _ in arrived(living.target)} == {*range(1, COUNT + 1)} - {5}


def test_what_is_left_alone_in_somebody_elses_place_is_allowed_for_and_listed(living: Workplace) -> None:
    fill(living.target, Records.of(2))
    with databases.open_target(living.target) as target:
        vectors = {"embedding": Dense(np.ones((1, DIM), np.float32))}
        target.upsert(Batch(IdColumn.of(IdKind.I64, [100]), None, vectors, [Records.payload(100)]))
    living.write(transfer={"partition_records": 20, "on_conflict": "skip"}, validation={"search": {"queries": 0}})
    context = context_of(living)
    assert migrate(context, ID).skipped == 2
    assert len(list(both_pass(context))) == 2

    write(living, 100)  # in place of a record that the load has not met
    report_changes(context, ID, [100])
    assert catch_up(context, ID).records == {"left_alone": 1}
    assert {number: outcome for number, (outcome, _) in listed(context).items()} == {"100": "left_alone"}
    for passed in both_pass(context):
        assert passed.tiers[0].summary.startswith("the target holds 41 records, 41 were expected: 41 in the source")
    with databases.open_target(living.target) as target:
        target.delete(IdColumn.of(IdKind.I64, [7]))
        target.delete(IdColumn.of(IdKind.I64, [8]))
    assert not validate(context, ID, full=True, again=True).passed


def test_what_a_repair_has_mended_is_not_listed_any_more(living: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(living)
    migrate(context, ID)
    write(living, 7, {"text": "new"})
    report_changes(context, ID, [7])
    with monkeypatch.context() as patch:
        patch.setattr(Milvus, "upsert", lambda database, batch: [])  # it says that it has written
        assert catch_up(context, ID).records == {"still_wrong": 1}
    assert (status(context, ID).live.unlike, [*listed(context)]) == (1, ["7"])

    assert not validate(context, ID, full=True).passed
    assert repair(context, ID).repaired == 1

    assert catch_up(context, ID).records == {"already_right": 1}
    assert (status(context, ID).live.unlike, listed(context)) == (0, {})


def test_what_a_refused_record_was_to_overwrite_is_counted_and_stays(living: Workplace, refusing: set[int]) -> None:
    fill(living.target, Records.of(2))
    with databases.open_target(living.target) as target:
        theirs = target.fetch(IdColumn.of(IdKind.I64, [1])).batch
    living.write(transfer={"partition_records": 20, "on_conflict": "overwrite"}, validation={"search": {"queries": 0}})
    context = context_of(living)
    refusing |= {1, 7}
    assert migrate(context, ID).refused == 2  # it counts the target at its end
    report_changes(context, ID, [1, 7])
    assert catch_up(context, ID).records == {"refused": 2}
    assert validate(context, ID).passed
    with databases.open_target(living.target) as target:
        assert compare(theirs, target.fetch(theirs.ids).batch).equal
