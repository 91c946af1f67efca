"""Contract of `target_split`: a split is in its part of the target, in order, and the parts tile the target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.id_ranges import target_split
from vectormigrate_dagster.mapping.ids import IdMapping, IdRule, Kept, RefusedId, target_id
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.model import Id, IdKind, Split, tile
from vectormigrate_dagster_tests.model.strategies import IDS, id_lists

KEPT: list[dict[IdKind, IdRule]] = [
    {IdKind.U64: IdRule.COPY},
    {IdKind.I64: IdRule.COPY},
    {IdKind.UUID: IdRule.COPY},
    {IdKind.TEXT: IdRule.COPY},
    {IdKind.U64: IdRule.COPY, IdKind.UUID: IdRule.COPY},
    {IdKind.U64: IdRule.SIGNED},
    {IdKind.I64: IdRule.UNSIGNED},
    {IdKind.UUID: IdRule.TEXT},
]
"""Rules that keep the order of ids, and bring no two kinds together."""

CHANGED: list[dict[IdKind, IdRule]] = [
    {IdKind.U64: IdRule.TEXT},
    {IdKind.TEXT: IdRule.UUID5},
    {IdKind.TEXT: IdRule.PARSE},
    {IdKind.U64: IdRule.TEXT, IdKind.UUID: IdRule.TEXT},
    {IdKind.UUID: IdRule.TEXT, IdKind.TEXT: IdRule.COPY},
    {IdKind.UUID: IdRule.COPY, IdKind.TEXT: IdRule.UUID5},
]


def _mapping(rules: dict[IdKind, IdRule]) -> IdMapping:
    return IdMapping(rules=rules, target_kinds=tuple(IdKind))


@given(st.data(), st.sampled_from(KEPT))
def test_ids_stay_in_their_part_and_in_order(data: st.DataObject, rules: dict[IdKind, IdRule]) -> None:
    mapping = _mapping(rules)
    for kind in rules:
        splits = tile(kind, data.draw(id_lists(kind, max_size=4)))
        parts = [target_split(mapping, ScopeMapping(), split, None) for split in splits]
        ids: list[Id] = sorted(data.draw(st.lists(IDS[kind], max_size=20, unique=True)))  # type: ignore[type-var]
        mapped = []
        for value in ids:
            try:
                made = target_id(mapping, value, kind)[1]
            except RefusedId:
                continue
            mapped.append(made)
            (place,) = (number for number, split in enumerate(splits) if split.contains(value))
            holding = [number for number, part in enumerate(parts) if part is not None and part.contains(made)]
            assert holding == [place]
        assert mapped == sorted(mapped)  # type: ignore[type-var]


@given(st.data(), st.sampled_from(KEPT))
def test_every_id_of_the_target_is_in_one_part(data: st.DataObject, rules: dict[IdKind, IdRule]) -> None:
    for kind in rules:
        splits = tile(kind, data.draw(id_lists(kind, max_size=4)))
        parts = [part for split in splits if (part := target_split(_mapping(rules), ScopeMapping(), split, None))]
        (made,) = {part.kind for part in parts}
        for value in data.draw(st.lists(IDS[made], max_size=10)):
            assert sum(part.contains(value) for part in parts) == 1


@given(st.sampled_from(CHANGED))
def test_there_is_no_part_where_ids_change_their_order_or_come_together(rules: dict[IdKind, IdRule]) -> None:
    changed = {kind for kind, rule in rules.items() if rule is not IdRule.COPY} or set(rules)
    for kind in changed:
        assert target_split(_mapping(rules), ScopeMapping(), Split(kind=kind), None) is None


def test_there_is_no_part_where_scopes_come_together_or_apart() -> None:
    mapping, split = _mapping({IdKind.U64: IdRule.COPY}), Split(kind=IdKind.U64, scope="a")
    for rule in (ScopeRule.TO_FIELD, ScopeRule.FROM_FIELD):
        assert target_split(mapping, ScopeMapping(rule=rule), split, None) is None
    native = target_split(mapping, ScopeMapping(rule=ScopeRule.NATIVE), split, "a")
    assert native == Split(kind=IdKind.U64, scope="a")
    single = target_split(mapping, ScopeMapping(rule=ScopeRule.SINGLE, only="a"), split, None)
    assert single == Split(kind=IdKind.U64)


def test_restored_ids_have_another_order() -> None:
    restored = IdMapping(
        rules={IdKind.UUID: IdRule.COPY}, target_kinds=(IdKind.U64,), restore=Kept(field="f", kinds=(IdKind.U64,))
    )
    assert target_split(restored, ScopeMapping(), Split(kind=IdKind.UUID), None) is None
