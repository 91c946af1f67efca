"""Ids: the rule of each kind, what is refused, that two ids never become one, and the way back."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.config import IdsConfig
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.id_columns import map_column, restore_column
from vectormigrate_dagster.mapping.id_policy import map_ids
from vectormigrate_dagster.mapping.ids import (
    DEFAULT_NAMESPACE,
    IdMapping,
    IdRule,
    RefusedId,
    mapped_uuid,
    mark,
    target_id,
    unmark,
)
from vectormigrate_dagster.mapping.profile import Profile
from vectormigrate_dagster.mapping.scopes import ScopeMapping
from vectormigrate_dagster.model import Id, IdColumn, IdKind, IdSchema, id_text
from vectormigrate_dagster_tests.mapping.support import MILVUS, QDRANT, batch, codes, mapped, milvus_schema, profile_of
from vectormigrate_dagster_tests.mapping.support import qdrant_schema as qdrant

ONE = uuid.UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
U64, I64, UUID, TEXT = IdKind.U64, IdKind.I64, IdKind.UUID, IdKind.TEXT

VALUES = {
    U64: st.integers(0, 2**64 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    UUID: st.uuids(),
    TEXT: st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.integers(-5, 2**65).map(str),
        st.uuids().map(str),
        st.uuids().map(lambda u: u.hex),
        st.sampled_from(["042", "+42", "42 ", "42\n", "٤٢", "-0", str(ONE).upper(), ONE.urn, f"{{{ONE}}}"]),
    ),
}


def choose(kinds: tuple[IdKind, ...], target=QDRANT, profile: Profile | None = None, **options) -> IdMapping:
    chosen, _ = map_ids(IdSchema(kinds=kinds), target, IdsConfig(**options), profile or Profile(), ScopeMapping())
    return chosen


def seen(kind: IdKind, *values: Id) -> Profile:
    return profile_of(batch(kind, list(values)))


@pytest.mark.parametrize(
    ("kinds", "target", "profile", "rules", "held"),
    [
        ((U64, UUID), MILVUS, seen(U64, 1, 2**63 - 1), {U64: IdRule.SIGNED}, (I64,)),
        ((U64, UUID), MILVUS, seen(U64, 1, 2**63), {U64: IdRule.TEXT, UUID: IdRule.TEXT}, (TEXT,)),
        ((U64, UUID), MILVUS, seen(UUID, ONE), {U64: IdRule.TEXT, UUID: IdRule.TEXT}, (TEXT,)),
        ((U64, UUID), MILVUS, Profile(), {U64: IdRule.TEXT, UUID: IdRule.TEXT}, (TEXT,)),
        ((I64,), QDRANT, seen(I64, 0, 5), {I64: IdRule.UNSIGNED}, (U64, UUID)),
        ((I64,), QDRANT, seen(I64, -1, 5), {I64: IdRule.UUID5}, (U64, UUID)),
        ((TEXT,), QDRANT, seen(TEXT, "7", str(ONE)), {TEXT: IdRule.PARSE}, (U64, UUID)),
        ((TEXT,), QDRANT, seen(TEXT, "7", "a"), {TEXT: IdRule.UUID5}, (U64, UUID)),
        ((TEXT,), QDRANT, seen(TEXT, "042"), {TEXT: IdRule.UUID5}, (U64, UUID)),
        ((TEXT,), QDRANT, seen(TEXT, str(ONE).upper()), {TEXT: IdRule.UUID5}, (U64, UUID)),
        ((TEXT,), QDRANT, Profile(), {TEXT: IdRule.UUID5}, (U64, UUID)),
        ((TEXT,), MILVUS, seen(TEXT, "a"), {TEXT: IdRule.COPY}, (TEXT,)),
        ((U64, UUID), QDRANT, seen(U64, 1), {U64: IdRule.COPY, UUID: IdRule.COPY}, (U64, UUID)),
    ],
)
def test_auto_keeps_ids_where_all_survive(kinds, target, profile, rules, held) -> None:
    chosen = choose(kinds, target, profile)
    assert chosen.rules == rules
    assert chosen.target_kinds == held


def test_native_reports_what_it_will_refuse() -> None:
    ids = ["7", "a", "b"]
    mapping, report = mapped(milvus_schema(), MILVUS, QDRANT, batch(TEXT, ids, name="vector"), ids={"policy": "native"})
    assert mapping.ids.rules == {TEXT: IdRule.PARSE}
    assert codes(report)["ids.not_canonical"] == "lossy"
    assert "2 of 3 records" in next(row.reason for row in report.rows if row.code == "ids.not_canonical")


def test_uuid5_goes_into_text_where_there_are_no_uuids() -> None:
    chosen = choose((U64,), MILVUS, seen(U64, 1), policy="uuid5")
    kind, value = target_id(chosen, 1, U64)
    assert kind is TEXT
    assert value == str(uuid.uuid5(DEFAULT_NAMESPACE, "1"))


def test_h31_the_namespace_is_configurable_and_the_name_of_a_text_is_the_text() -> None:
    theirs = uuid.uuid4()
    chosen = choose((TEXT,), QDRANT, seen(TEXT, "chunk#1"), namespace=str(theirs))
    assert target_id(chosen, "chunk#1", TEXT) == (UUID, uuid.uuid5(theirs, "chunk#1"))
    with pytest.raises(ConfigurationError, match="'qm' is not a UUID"):
        choose((TEXT,), namespace="qm")


def test_h11_ids_are_the_same_in_every_process() -> None:
    code = (
        "from vectormigrate_dagster.mapping.ids import *; from vectormigrate_dagster.model import IdKind\n"
        "m = IdMapping(rules={IdKind.TEXT: IdRule.UUID5}, target_kinds=(IdKind.UUID,))\n"
        "print(target_id(m, 'é:1', IdKind.TEXT)[1], m.namespace)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {f"{uuid.uuid5(DEFAULT_NAMESPACE, 'é:1')} {DEFAULT_NAMESPACE}\n"}
    assert str(DEFAULT_NAMESPACE) == "fdefbfb2-97a5-5127-b760-5185937458f6"


def test_h16_text_and_number_of_a_mixed_source_stay_apart() -> None:
    chosen = choose((U64, TEXT), QDRANT, profile_of(batch(U64, [42]), batch(TEXT, ["42", "x"])))
    assert chosen.tagged
    assert target_id(chosen, 42, U64) != target_id(chosen, "42", TEXT)


def test_h17_equal_ids_of_two_scopes_stay_apart() -> None:
    chosen = IdMapping(rules={TEXT: IdRule.UUID5}, target_kinds=(UUID,), scoped=True)
    made = {
        target_id(chosen, name, TEXT, scope) for scope, name in [("a", "b"), ("b", "b"), ('a", "b', ""), (None, "b")]
    }
    assert len(made) == 4


@settings(max_examples=300, deadline=None)
@given(data=st.data(), rule=st.sampled_from(IdRule), kind=st.sampled_from(IdKind))
def test_h16_no_rule_makes_one_id_of_two(data: st.DataObject, rule: IdRule, kind: IdKind) -> None:
    targets = {
        IdRule.COPY: (kind,), IdRule.TEXT: (TEXT,), IdRule.SIGNED: (I64,), IdRule.UNSIGNED: (U64,),
        IdRule.PARSE: (U64, UUID), IdRule.UUID5: (UUID,),
    }[rule]  # fmt: skip
    if (rule is IdRule.PARSE) != (kind is TEXT) and rule in (IdRule.PARSE, IdRule.TEXT):
        return
    if (rule is IdRule.SIGNED and kind is not U64) or (rule is IdRule.UNSIGNED and kind is not I64):
        return
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=20, unique_by=lambda v: (type(v), v)))
    chosen = IdMapping(rules={kind: rule}, target_kinds=targets)
    found = map_column(chosen, IdColumn.of(kind, values), None)
    made = {row: (part.kind, part[i]) for rows, part in found.parts for i, row in enumerate(rows.tolist())}
    assert made.keys() | found.refused.keys() == set(range(len(values)))
    assert not made.keys() & found.refused.keys()
    assert len(set(made.values())) == len(made)
    for row, value in enumerate(values):
        if row in made:
            assert made[row] == target_id(chosen, value, kind)
            assert rule is IdRule.UUID5 or id_text(made[row][1]) == id_text(value)
        else:
            with pytest.raises(RefusedId):
                target_id(chosen, value, kind)


@given(kind=st.sampled_from(IdKind), data=st.data())
def test_a_kept_original_can_be_read_back(kind: IdKind, data: st.DataObject) -> None:
    value = data.draw(VALUES[kind])
    assert unmark(mark(value, kind)) == (kind, value)


@pytest.mark.parametrize("other", [None, 7, "abc", "u64:-1", "u64:042", "uuid:" + ONE.hex, "i65:1", ":x", ["text:a"]])
def test_other_values_are_not_taken_for_an_original(other: object) -> None:
    assert unmark(other) is None


def test_uuid5_is_the_standard_one() -> None:
    for name in ("", "a", "é" * 600):
        assert mapped_uuid(uuid.NAMESPACE_DNS, name, TEXT, None, tagged=False) == uuid.uuid5(uuid.NAMESPACE_DNS, name)


def test_ids_longer_than_the_target_holds_are_refused_one_by_one() -> None:
    existing = milvus_schema(ids=IdSchema(kinds=(TEXT,), field="id", max_length=4))
    mapping, report = mapped(
        milvus_schema(), MILVUS, MILVUS, batch(TEXT, ["abcd", "abé", "abcé"], name="vector"), existing=existing,
        ids={"policy": "native"},
    )  # fmt: skip
    assert codes(report)["ids.length"] == "lossy"
    found = map_column(mapping.ids, IdColumn.of(TEXT, ["abcd", "abé", "abcé"]), None)
    assert list(found.refused) == [2]
    assert "5 bytes" in found.refused[2]


def test_a_taken_field_and_a_target_that_makes_ids_are_refused() -> None:
    _, report = mapped(milvus_schema(), MILVUS, QDRANT, batch(TEXT, ["a"], [{"_source_id": 1}], name="vector"))
    assert codes(report)["ids.field_taken"] == "refused"
    auto = milvus_schema(ids=IdSchema(kinds=(TEXT,), field="id", auto=True))
    _, report = mapped(milvus_schema(), MILVUS, MILVUS, batch(TEXT, ["a"], name="vector"), existing=auto)
    assert codes(report)["ids.auto"] == "refused"


def test_a_kind_that_the_plan_did_not_see_is_refused_with_a_reason() -> None:
    mapping, _ = mapped(qdrant(), QDRANT, MILVUS, batch(U64, [1, 2]))
    found = map_column(mapping.ids, IdColumn.of(UUID, [ONE]), None)
    assert "plan again" in found.refused[0]


@pytest.mark.parametrize(
    ("source", "target", "kinds", "made", "added", "refused"),
    [
        (TEXT, QDRANT, (U64,), [str(ONE)], ["42", str(uuid.UUID(int=1)), "a"], {"42", "a"}),
        (TEXT, QDRANT, (UUID,), [str(ONE)], ["42", str(uuid.UUID(int=1)), "a"], {str(uuid.UUID(int=1)), "a"}),
        (TEXT, QDRANT, (U64, UUID), [str(ONE)], ["42", str(uuid.UUID(int=1))], {"42", str(uuid.UUID(int=1))}),
        (TEXT, MILVUS, (I64,), [str(ONE)], ["-42", "a"], {"-42", "a"}),
        (TEXT, MILVUS, (TEXT,), [str(ONE)], ["a"], {"a"}),
        (UUID, QDRANT, (U64,), [ONE], [uuid.UUID(int=1)], set()),
    ],
)
def test_h16_the_plan_counts_what_the_mapper_refuses_beside_restored_ids(
    source, target, kinds, made, added, refused
) -> None:
    original = mark({U64: 7, I64: 7, UUID: ONE, TEXT: "7"}[kinds[0]], kinds[0])
    profile = profile_of(batch(source, made + added, [{"_source_id": original}] + [{} for _ in added]))
    mapping, rows = map_ids(
        IdSchema(kinds=(source,)), target, IdsConfig(), profile, ScopeMapping(),
        marker={"field": "_source_id", "kinds": [kind.value for kind in kinds]},
    )  # fmt: skip
    found = restore_column(mapping, IdColumn.of(source, added), [{} for _ in added])
    assert {id_text(added[row]) for row in found.refused} == refused
    reasons = [row.reason for row in rows if row.code == "ids.added_since"]
    assert [reason.split()[0] for reason in reasons] == ([str(len(refused))] if refused else [])
