"""Sixteen directions, without a server: what a plan keeps, comes back bit for bit.

Generated records go there through a plan and back through the reverse plan. Nothing may differ but ints that became
floats, which the plan says. `VECTORMIGRATE_EXAMPLES=10000` makes it a long run.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.loss import Grade, LossReport
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    Payload,
    ScopeKind,
    is_valid,
)
from vectormigrate_dagster_tests.mapping.support import (
    SERVERS,
    canonical,
    mapped,
    milvus_schema,
    pinecone_schema,
    qdrant_schema,
    vectors,
    weaviate_schema,
)

EXAMPLES = int(os.environ.get("VECTORMIGRATE_EXAMPLES", "300"))
DIRECTIONS = list(product(SERVERS, SERVERS))

TEXTS = st.one_of(
    st.sampled_from(["", "123", "true", "null", "2026-01-01T00:00:00Z", "text:abc", '{"a":1}', "[]"]),
    st.text(st.characters(codec="utf-8"), max_size=4),
)
INTS = st.one_of(st.sampled_from([0, 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]), st.integers(-9, 9))
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300, -5e-324])
PLAIN = st.one_of(st.booleans(), INTS, FLOATS, TEXTS)
NESTED = st.recursive(
    st.one_of(st.none(), PLAIN),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)
LISTS = st.one_of(*(st.lists(of, max_size=3) for of in (st.booleans(), INTS, FLOATS, TEXTS)))
KEYS = st.one_of(
    st.sampled_from(
        [
            "Title",
            "title",
            "titlE",
            "title_2",
            "id",
            "id_",
            "_id",
            "pk",
            "vector",
            "vector_",
            "$meta",
            "$x",
            "a.b",
            "é",
            "",
        ]
    ),
    st.sampled_from(["_source_json", "_values", "x" * 300, "n", "1st", "_additional", "_score"]),
    st.text(st.characters(codec="utf-8"), max_size=3),
)
IDS = {
    IdKind.TEXT: st.one_of(
        TEXTS, st.integers(-99, 99).map(str), st.uuids().map(str), st.uuids().map(lambda one: str(one).upper()),
        st.text("ab", min_size=510, max_size=515),
    ),
    IdKind.U64: st.one_of(st.integers(0, 9), st.sampled_from([2**63, 2**64 - 1])),
    IdKind.I64: st.one_of(st.integers(-9, 9), st.sampled_from([-(2**63), 2**63 - 2])),
    IdKind.UUID: st.uuids(),
}  # fmt: skip


@st.composite
def sources(draw: st.DrawFn, type: str) -> tuple[CollectionSchema, list[Batch]]:
    """A collection of a database with records that it can hold."""
    can = SERVERS[type]
    scopes: tuple[str | None, ...] = (None,)
    changes: dict[str, Any] = {}
    if draw(DIVIDED):
        changes["scope"] = next(kind for kind in can.scope_kinds if kind is not ScopeKind.FIELD)
        scopes = draw(scope_names(type))
    kinds = draw(id_kinds(type))
    held = payloads(type)
    if not can.dynamic_fields:
        columns = draw(COLUMNS)
        held = properties(columns)
        changes["fields"] = tuple(
            FieldSchema(name=name, declared=True, **PROPERTIES[of][0])
            for name, of in zip("abcd", columns, strict=False)
        )
    batches = []
    seen: set[Any] = set()
    for scope, kind in product(scopes, kinds):
        ids = [value for value in draw(ids_of(type, kind)) if can.ids_are_unique_per_scope or value not in seen]
        assume(ids)
        seen |= set(ids)
        name = SCHEMAS[type]().vectors[0].name
        column = Dense(vectors(len(ids), draw(SEEDS)))
        batches.append(Batch(IdColumn.of(kind, ids), scope, {name: column}, [draw(held) for _ in ids]))
    if type == "milvus":
        changes["ids"] = milvus_schema(kinds[0]).ids.model_copy(update={"max_length": 65_535})
    return SCHEMAS[type](**changes), batches


DIVIDED = st.sampled_from([False, False, True])
SEEDS = st.integers(0, 3)
SCOPES = ["a", "b", "a-b", "A"]


@cache
def scope_names(type: str) -> st.SearchStrategy[tuple[str, ...]]:
    possible = SCOPES[:2] if type == "milvus" else SCOPES
    return st.lists(st.sampled_from(possible), min_size=1, max_size=2, unique=True).map(tuple)


@cache
def id_kinds(type: str) -> st.SearchStrategy[list[IdKind]]:
    can = SERVERS[type]
    most = len(can.id_kinds) if can.mixed_id_kinds else 1
    return st.lists(st.sampled_from(can.id_kinds), min_size=1, max_size=most, unique=True)


@cache
def ids_of(type: str, kind: IdKind) -> st.SearchStrategy[list[Any]]:
    can = SERVERS[type]
    return st.lists(IDS[kind].filter(lambda value: held_id(can, value)), min_size=1, max_size=3, unique=True)


@cache
def payloads(type: str) -> st.SearchStrategy[Payload]:
    can = SERVERS[type]
    return st.dictionaries(KEYS.filter(lambda key: held_key(can, key)), values(can), max_size=4)


@cache
def properties(columns: tuple[str, ...]) -> st.SearchStrategy[Payload]:
    held = {name: PROPERTIES[of][1] for name, of in zip("abcd", columns, strict=False)}
    return st.fixed_dictionaries({}, optional=held)


SCHEMAS = {
    "milvus": milvus_schema, "pinecone": pinecone_schema, "qdrant": qdrant_schema, "weaviate": weaviate_schema,
}  # fmt: skip
PROPERTIES: dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]] = {
    "bool": ({"type": FieldType.BOOL}, st.booleans()),
    "int": ({"type": FieldType.INT64}, INTS.filter(lambda value: abs(value) <= 2**53)),
    "number": ({"type": FieldType.FLOAT64}, FLOATS),
    "text": ({"type": FieldType.TEXT}, TEXTS),
    "int[]": ({"type": FieldType.ARRAY, "element": FieldType.INT64}, st.lists(st.integers(-5, 5), max_size=2)),
    "text[]": ({"type": FieldType.ARRAY, "element": FieldType.TEXT}, st.lists(TEXTS, max_size=2)),
    "date": ({"type": FieldType.DATETIME}, st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5+02:00"])),
    "geo": ({"type": FieldType.GEO}, st.just({"latitude": 1.5, "longitude": -2.0})),
    "object": (
        {"type": FieldType.OBJECT, "fields": (FieldSchema(name="x", type=FieldType.INT64, declared=True),)},
        st.just({"x": 1}),
    ),
}


COLUMNS = st.sampled_from(
    [*product(PROPERTIES, PROPERTIES), *((one,) for one in PROPERTIES), ("text", "int", "number", "date")]
)


def held_id(can: Capabilities, value: Any) -> bool:
    """Whether a database can have an id at all."""
    return (
        not isinstance(value, str)
        or (can.id_pattern is None and value != "")
        or (value.isascii() and 0 < len(value) <= 512 and "\0" not in value)
    )


def held_key(can: Capabilities, key: str) -> bool:
    """Whether records of a database can have a key, and have it again after coming back.

    A key that looks as if it had moved aside for a column's name moves aside once more, and the field for JSON text is
    ours; the plan says both.
    """
    stems = {"id", "vector", "$meta"} if can.type == "milvus" else set()
    ours = not can.holds_any_json and key == "_source_json"
    return (
        key.rstrip("_") not in stems
        and key not in can.reserved_keys
        and not (can.key_pattern and key[:1] == "$")
        and not ours
    )


def values(can: Capabilities) -> st.SearchStrategy[Any]:
    """What the database keeps under any key."""
    if can.holds_any_json:
        return st.one_of(NESTED, LISTS)
    return st.one_of(
        st.booleans(), FLOATS.filter(lambda v: str(v) != "-0.0"), TEXTS, st.lists(TEXTS, min_size=1, max_size=2)
    )


def records(batches: list[Batch]) -> dict[Any, tuple[dict[str, bytes], Payload]]:
    found = {}
    for one in batches:
        for row, value in enumerate(one.ids.to_pylist()):
            present = {n: c.values[row].tobytes() for n, c in one.vectors.items() if is_valid(c)[row]}
            assert (one.scope, one.ids.kind, value) not in found
            found[one.scope, one.ids.kind, value] = (present, one.payloads[row])
    return found


def moved(
    schema: CollectionSchema, source: Capabilities, target: Capabilities, batches: list[Batch]
) -> tuple[Any, LossReport, list[Batch]]:
    mapping, report = mapped(schema, source, target, *batches)
    mapper = RecordMapper(mapping)
    done = [mapper.map(one) for one in batches]
    assert not [refusal for one in done for refusal in one.refused]
    return mapping, report, [part for one in done for part in one.batches]


def as_floats(value: Any) -> Any:
    return float(value) if type(value) is int and abs(value) <= 2**53 else value


@pytest.mark.parametrize(("source", "target"), DIRECTIONS, ids=[f"{a}-{b}" for a, b in DIRECTIONS])
def test_there_and_back_is_the_identity(source: str, target: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(given_source=sources(source))
    def check(given_source: tuple[CollectionSchema, list[Batch]]) -> None:
        schema, batches = given_source
        here, there = SERVERS[source], SERVERS[target]
        mapping, report, parts = moved(schema, here, there, batches)
        report.check()
        assert all(row.grade in (Grade.EXACT, Grade.WIDENED) for row in report.rows)
        for part in parts:
            for payload in part.payloads:
                assert_held(payload, there, mapping.target_schema)
        _, back_report, returned = moved(mapping.target_schema, there, here, parts)
        back_report.check()
        widened = {row.code for row in report.rows if row.grade is Grade.WIDENED}
        before, after = records(batches), records(returned)
        assert after.keys() == before.keys()
        for key, (columns, payload) in before.items():
            expected = {
                k: as_floats(v) if f"field.{k}.float" in widened and not declared_int(schema, k) else v
                for k, v in payload.items()
            }
            assert canonical(after[key][1]) == canonical(expected)
            assert after[key][0] == columns

    check()


def assert_held(payload: Payload, can: Capabilities, schema: CollectionSchema) -> None:
    """Every value has a place in the target of its own kind."""
    declared = {field.name for field in schema.fields if field.declared}
    for key, value in payload.items():
        assert can.dynamic_fields or key in declared
        assert value is not None or "null" in can.payload_types
        assert not (can.numbers_are_floats and type(value) is int)
        assert not (can.list_elements and isinstance(value, list) and not all(isinstance(one, str) for one in value))
        assert not (can.key_pattern and key.startswith("$"))


def declared_int(schema: CollectionSchema, key: str) -> bool:
    """Whether the source declares an int, which a way back knows."""
    return any(field.name == key and field.type is FieldType.INT64 for field in schema.fields)
