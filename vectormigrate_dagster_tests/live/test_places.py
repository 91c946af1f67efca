"""Checks where records of a live migration stand: scopes that appear, ids and scopes that come out of payloads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vectormigrate_dagster.live import places
from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.live.keys import KeyMap
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.model import Batch, Capabilities, CollectionSchema, Id, IdColumn, IdKind, ScopeKind
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster_tests.live.support import Live, same_mapping
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS_SERVER,
    PINECONE,
    QDRANT_SERVER,
    batch,
    mapped,
    pinecone_schema,
    qdrant_schema,
)
from vectormigrate_dagster_tests.memory import MemoryDatabase


def moved_before(
    schema: CollectionSchema, here: Capabilities, there: Capabilities, *batches: Batch, **options: Any
) -> tuple[list[Batch], Mapping]:
    """What an earlier migration has made of records, and the mapping that leads back."""
    first, report = mapped(schema, here, there, *batches, **options)
    report.check()
    made = [part for one in batches for part in RecordMapper(first).map(one).batches]
    back, report = mapped(first.target_schema, there, here, *made)
    report.check()
    return made, back


def texts(side: MemoryDatabase, scope: str | None = None) -> dict[Id, Any]:
    return {key: one.payloads[0] for key, one in side.store.records.get(scope, {}).items()}


def restored(tmp_path: Path) -> tuple[Live, Batch]:
    """A source with ids that an earlier migration made, which come back in the target."""
    named = batch(IdKind.TEXT, ["a", "b", "c"], [{"n": 1}, {"n": 2}, {"n": 3}], name="_values")
    (made,), mapping = moved_before(pinecone_schema(), PINECONE, QDRANT_SERVER, named)
    assert mapping.ids.restore is not None
    live = Live(tmp_path, mapping=mapping)
    live.source.put(made)
    live.load(split_kind=IdKind.UUID)
    assert texts(live.target).keys() == {"a", "b", "c"}
    return live, made


def test_h16_a_record_whose_kept_id_is_gone_with_it_is_found_in_the_target(tmp_path: Path) -> None:
    live, made = restored(tmp_path)
    live.remove(made.ids[0])
    changed = made.take([1])
    live.write(replace(changed, payloads=[{**changed.payloads[0], "n": 20}]))
    step = live.catch_up().step()
    assert step.outcomes == {Outcome.REPAIRED: 2}
    assert texts(live.target) == {"b": {"n": 20}, "c": {"n": 3}}


def test_reading_the_whole_target_may_take_longer_than_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, made = restored(tmp_path)
    for number in range(20):
        live.target.put(batch(IdKind.TEXT, [f"more-{number}"], [{"n": number}], name="_values"))
    live.remove(made.ids[0])
    real, late = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + late[0])

    def page(*arguments: Any, **named: Any) -> Iterator[Batch]:
        for one in read_split(*arguments, batch_records=5, **named):
            late[0] += 40
            live.later(40)
            yield one

    monkeypatch.setattr(places, "read_split", page)
    assert live.catch_up(lease_seconds=60.0).step().consumed == 1
    assert late[0] > 120
    assert "a" not in texts(live.target)


def test_h16_a_record_that_was_rewritten_without_its_kept_id_stands_once(tmp_path: Path) -> None:
    live, made = restored(tmp_path)
    live.write(replace(made.take([0]), payloads=[{"n": 10}]))
    step = live.catch_up().step()
    assert step.consumed == 1
    assert "a" not in texts(live.target)
    # As the plan says, such a record could take the id of one that comes back: it is refused, and listed.
    assert [one.outcome for one in step.listed] == [Outcome.REFUSED]
    assert len(texts(live.target)) == 2


def test_h16_after_the_switch_records_go_back_under_the_ids_that_were_made(tmp_path: Path) -> None:
    live, made = restored(tmp_path)
    live.switch()
    live.journal.note([live.key(value) for value in made.ids.to_pylist()], kind="change")
    live.target.put(batch(IdKind.TEXT, ["b"], [{"n": 5.0}], name="_values"))
    live.target.delete(IdColumn.of(IdKind.TEXT, ["c"]))
    step = live.catch_up().step()
    assert step.outcomes == {Outcome.REPAIRED: 2, Outcome.ALREADY_RIGHT: 1}
    assert texts(live.source) == {
        made.ids[0]: made.payloads[0],
        made.ids[1]: {**made.payloads[1], "n": 5},
    }


def test_h17_a_record_that_moves_to_another_scope_leaves_the_one_before(tmp_path: Path) -> None:
    scope = ScopeMapping(rule=ScopeRule.FROM_FIELD, kind=ScopeKind.NAMESPACE)
    live = Live(tmp_path, mapping=same_mapping().model_copy(update={"scope": scope}))
    for key, name in ((1, "aa"), (2, "bb"), (3, "aa")):
        live.source.put(batch(IdKind.U64, [key], [{"n": 1, scope.field: name}]))
    live.load()
    assert ids_by_scope(live.target) == {"aa": {1, 3}, "bb": {2}}
    live.write(batch(IdKind.U64, [1], [{"n": 2, scope.field: "bb"}]))
    live.remove(2)
    assert live.catch_up().step().listed == ()
    assert ids_by_scope(live.target) == {"aa": {3}, "bb": {1}}
    live.switch()
    live.journal.note([live.key(key) for key in (1, 2, 3)], kind="change")
    live.target.delete(IdColumn.of(IdKind.U64, [3]), "aa")
    live.target.put(batch(IdKind.U64, [2], [{"n": 5}], scope="aa"))
    assert live.catch_up().step().listed == ()
    assert texts(live.source) == {1: {"n": 2, scope.field: "bb"}, 2: {"n": 5, scope.field: "aa"}}


def ids_by_scope(side: MemoryDatabase) -> dict[str | None, set[Id]]:
    return {scope: set(found) for scope, found in side.store.records.items()}


def test_a_scope_that_appears_during_the_move_is_carried_over(tmp_path: Path) -> None:
    schema = pinecone_schema(scope=ScopeKind.NAMESPACE)
    before = batch(IdKind.TEXT, ["a"], [{"value": 1}], name="_values", scope="old")
    mapping, _ = mapped(schema, PINECONE, PINECONE, before)
    live = Live(tmp_path, mapping=mapping)
    live.write(batch(IdKind.TEXT, ["a"], [{"value": 7}], name="_values", scope="new"))
    step = live.catch_up().step()
    assert step.listed == ()
    assert texts(live.target, "new") == {"a": {"value": 7}}


@pytest.mark.parametrize(
    ("scope", "options", "reason"),
    [
        ("c d", {"target": MILVUS_SERVER}, "accepts no such name"),
        ("other", {"scopes": ["old"]}, "not one that this migration moves"),
        (None, {}, "without its namespace"),
    ],
)
def test_a_scope_without_a_place_is_refused_and_says_why(
    scope: str | None, options: dict[str, Any], reason: str
) -> None:
    before = batch(IdKind.TEXT, ["a"], name="_values", scope="old")
    target = options.get("target", PINECONE)
    mapping, _ = mapped(pinecone_schema(scope=ScopeKind.NAMESPACE), PINECONE, target, before)
    keys = KeyMap(mapping, **options)
    key = Key(scope, IdKind.TEXT, "a")
    with pytest.raises(RefusedId, match=reason):
        keys.place(key)
    grouped = keys.grouped([key, Key("old", IdKind.TEXT, "a")], "source", most=10)
    assert list(grouped.nowhere) == [key]
    assert len(grouped.groups) == 1


def test_keys_stay_ids_of_the_source_in_both_directions() -> None:
    mapping, _ = mapped(qdrant_schema(), QDRANT_SERVER, PINECONE, batch(IdKind.U64, [1]))
    keys = KeyMap(mapping)
    key = Key(None, IdKind.U64, "1")
    (forth,), (back,) = (keys.grouped([key, key], side, most=10).groups for side in ("source", "target"))
    assert forth.of == back.of == [key]
    assert forth.keys.ids == back.keys.target_ids == IdColumn.of(IdKind.U64, [1])
    assert forth.keys.target_ids == back.keys.ids == IdColumn.of(IdKind.TEXT, ["1"])


def test_a_record_of_another_scope_that_has_its_id_is_left_alone(tmp_path: Path) -> None:
    scope = ScopeMapping(rule=ScopeRule.TO_FIELD)
    mapping = same_mapping()
    source = mapping.source_schema.model_copy(update={"scope": ScopeKind.NAMESPACE})
    live = Live(tmp_path, mapping=mapping.model_copy(update={"scope": scope, "source_schema": source}))
    live.write(batch(IdKind.U64, [1], [{"n": 1}], scope="aa"))
    live.catch_up().step()
    live.write(batch(IdKind.U64, [1], [{"n": 2}], scope="bb"))
    live.remove(1, scope="bb")
    (listed,) = live.catch_up().step().listed
    assert (listed.key.scope, listed.outcome) == ("bb", Outcome.LEFT_ALONE)
    assert texts(live.target) == {1: {"n": 1, scope.field: "aa"}}
