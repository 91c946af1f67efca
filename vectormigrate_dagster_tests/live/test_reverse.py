"""Checks what reaches the source after the switch: the plan read backwards, onto what stands there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Payload
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster_tests.live.support import Live
from vectormigrate_dagster_tests.mapping.support import (
    MILVUS_SERVER,
    QDRANT_SERVER,
    batch,
    mapped,
    milvus_schema,
    records,
)

NAMED = ["a", "b", "c"]


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Texts that became UUIDs, with a field that was left behind and one that has another name; switched."""
    given = batch(IdKind.TEXT, NAMED, [{"n": n, "x": n, "secret": n} for n in range(3)], name="vector")
    options = {"drop": ("secret",), "rename": {"x": "y"}}
    mapping, report = mapped(milvus_schema(), MILVUS_SERVER, QDRANT_SERVER, given, **options)
    report.check()
    live = Live(tmp_path, mapping=mapping)
    live.source.put(given)
    live.load(split_kind=IdKind.TEXT)
    assert live.target.ids() == {target_of(live, name) for name in NAMED}
    live.switch()
    return live


def target_of(live: Live, name: str) -> object:
    """The id in the target, as an application computes it."""
    return live.sides.keys.place(live.key(name)).id


def write(live: Live, name: str, payload: Payload) -> None:
    """Write a record to the target, in the target's form and without what the plan adds to it."""
    admission = live.admit(name)
    assert admission.control.primary == "target"
    one = batch(IdKind.UUID, [target_of(live, name)], [payload], name=target_vector(live))
    live.target.put(one)
    live.journal.applied(admission)


def target_vector(live: Live) -> str:
    return live.mapping.vectors[0].target


def payloads(live: Live) -> dict[object, Payload]:
    return {key: one.payloads[0] for key, one in live.source.store.records[None].items()}


def test_changes_inserts_and_deletes_reach_the_source_under_its_own_ids_and_names(live: Live) -> None:
    write(live, "a", {"n": 10, "y": 0})
    write(live, "new", {"n": 4, "y": 4})
    admission = live.admit("b")
    live.target.delete(IdColumn.of(IdKind.UUID, [target_of(live, "b")]))
    live.journal.applied(admission)
    step = live.catch_up().step()
    assert step.outcomes == Counter({Outcome.REPAIRED: 3})
    assert payloads(live) == {
        "a": {"n": 10, "x": 0, "secret": 0},
        "c": {"n": 2, "x": 2, "secret": 2},
        "new": {"n": 4, "x": 4},
    }


def test_what_was_reported_and_not_changed_is_not_written(live: Live) -> None:
    before = snapshot(live)
    live.journal.note([live.key(name) for name in NAMED], kind="change")
    assert live.catch_up().step().outcomes == Counter({Outcome.ALREADY_RIGHT: 3})
    assert snapshot(live) == before
    assert live.source.calls["upsert"] == live.source.calls["delete"] == 0


def test_what_the_source_cannot_take_back_is_listed_and_left_as_it_stands(live: Live) -> None:
    write(live, "a", {"n": 10, "y": 0, "secret": "of the target"})
    write(live, "b", {"n": 11, "y": 1})
    step = live.catch_up().step()
    assert [(one.key.text, one.outcome) for one in step.listed] == [("a", Outcome.REFUSED)]
    assert "secret" in step.listed[0].reason
    assert payloads(live)["a"] == {"n": 0, "x": 0, "secret": 0}
    assert payloads(live)["b"] == {"n": 11, "x": 1, "secret": 1}
    assert live.journal.lag().records == 0


def test_going_back_loses_no_write(live: Live) -> None:
    write(live, "a", {"n": 10, "y": 0})
    write(live, "new", {"n": 4, "y": 4})
    live.switch()
    assert live.journal.control().primary == "source"
    assert set(payloads(live)) == {*NAMED, "new"}
    given = live.source.get("c")
    live.write(replace(given, payloads=[{"n": 99, "x": 1, "secret": 5}]))
    live.catch_up().step()
    assert promised(live) == without_ids(list(live.target.store.records[None].values()))


def promised(live: Live) -> dict[object, object]:
    """What the plan makes of the source."""
    mapper = RecordMapper(live.mapping)
    return without_ids([part for one in live.source.store.records[None].values() for part in mapper.map(one).batches])


def without_ids(found: list[Batch]) -> dict[object, object]:
    """Records without the field in which the plan keeps ids, which the application need not write."""
    plain = [{key: v for key, v in one.payloads[0].items() if key != "_source_id"} for one in found]
    return dict(records(*(replace(one, payloads=[payload]) for one, payload in zip(found, plain, strict=True))))


def snapshot(live: Live) -> dict[object, object]:
    return dict(records(*live.source.store.records[None].values()))


def test_what_the_source_cannot_take_back_keeps_the_sides_apart(live: Live) -> None:
    """A write that would be lost is a difference; a record that was never moved is none."""
    write(live, "a", {"n": 10, "y": 0, "secret": "of the target"})
    live.catch_up().step()
    assert differing(live, "a", "b") == [True, False]


def test_a_record_that_was_never_moved_is_not_deleted_because_the_target_lacks_it(live: Live) -> None:
    live.source.put(batch(IdKind.TEXT, ["odd"], [{"n": float("nan"), "x": 1}], name="vector"))
    assert RecordMapper(live.mapping).map(live.source.get("odd")).refused
    live.journal.note([live.key("odd")], kind="touch")
    (listed,) = live.catch_up().step().listed
    assert (listed.key.text, listed.outcome) == ("odd", Outcome.REFUSED)
    assert "odd" in live.source.ids()
    assert differing(live, "odd") == [False]


def test_a_touch_alone_deletes_nothing_of_the_source(live: Live) -> None:
    """The target may have refused it at the load, for reasons of its own; only an application deletes."""
    live.source.put(batch(IdKind.TEXT, ["refused"], [{"n": 1, "x": 1}], name="vector"))
    live.journal.note([live.key("refused")], kind="touch")
    (listed,) = live.catch_up().step().listed
    assert (listed.key.text, listed.outcome) == ("refused", Outcome.REFUSED)
    assert "report-changes" in listed.reason
    assert "refused" in live.source.ids()
    assert differing(live, "refused") == [True]
    live.journal.note([live.key("refused")], kind="touch")
    live.journal.note([live.key("refused")], kind="change")
    assert live.catch_up().step().outcomes == Counter({Outcome.REPAIRED: 1})
    assert "refused" not in live.source.ids()


def differing(live: Live, *names: str) -> list[bool]:
    """What a comparison in the direction of the present says."""
    (group,) = live.sides.grouped([live.key(name) for name in names], "target").groups
    return live.sides.resync("target", check=lambda: None).differing(group.keys)
