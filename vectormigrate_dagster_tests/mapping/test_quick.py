"""The quick looks agree with the whole checks: what they let pass, these would let pass too."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.payloads import misfit
from vectormigrate_dagster.mapping.plain import Plain
from vectormigrate_dagster.mapping.profiler import json_type
from vectormigrate_dagster.mapping.quick import quick_check
from vectormigrate_dagster.model import FieldSchema, FieldType

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-300, 300)
    | st.floats()
    | st.text(max_size=6)
    | st.just("\ud800")
    | st.just(b"octets"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
COLUMNS = [
    FieldSchema(name="c", type=kind, declared=True, max_length=8)
    for kind in (FieldType.BOOL, FieldType.INT8, FieldType.INT64, FieldType.FLOAT64, FieldType.TEXT, FieldType.JSON)
] + [
    FieldSchema(name="c", type=FieldType.ARRAY, element=kind, declared=True, max_capacity=2, max_length=8)
    for kind in (FieldType.INT16, FieldType.TEXT, FieldType.FLOAT64)
]


@given(VALUES, st.sampled_from(COLUMNS))
def test_what_a_column_holds_at_one_look_it_holds(value: Any, column: FieldSchema) -> None:
    if quick_check(column)(value):
        assert misfit(column, value) is None


def test_a_look_recognises_the_usual_values() -> None:
    usual: list[Any] = [True, -128, 2**63 - 1, 0.5, "ab", None, [1, 2], ["a"], [0.5]]
    held = [quick_check(column)(value) for column, value in zip(COLUMNS, usual, strict=True)]
    assert held == [True] * 5 + [False] + [True] * 3


def limits(most: int | None, **changes: Any) -> Limits:
    types = ("bool", "float", "int", "list", "null", "object", "text")
    return Limits(min_int=-(2**63), max_int=2**63 - 1, types=types, max_payload_bytes=most).model_copy(update=changes)


def plain(within: Limits, *, restricted: bool = False) -> Plain:
    return Plain(within, restricted=restricted)


PAYLOADS = st.dictionaries(st.text(max_size=4) | st.just("\ud800"), VALUES, max_size=4)


@given(PAYLOADS, st.integers(2, 300))
def test_a_plain_payload_is_within_every_limit(payload: dict[str, Any], most: int) -> None:
    if not plain(limits(most)).holds(payload):
        return
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert len(text.encode()) <= most
    for value in payload.values():
        for inner in value if isinstance(value, list) else [value]:
            assert not isinstance(inner, int) or -(2**63) <= inner < 2**63


RESTRICTED = {"types": ("bool", "int", "float", "text", "list"), "min_int": -300, "max_int": 300}
STRICT = [
    limits(100, **RESTRICTED, list_elements=("text",), empty_lists=False, negative_zero=False),
    limits(100, **RESTRICTED, key_pattern="[a-z].*", reserved=("id",)),
    limits(None, types=("int", "list", "null"), list_elements=("null", "int")),
]


@given(PAYLOADS, st.sampled_from(STRICT))
@example({"v": -0.0}, STRICT[0])
@example({"v": []}, STRICT[0])
@example({"v": [1]}, STRICT[0])
@example({"id": 1}, STRICT[1])
@example({"1": 1}, STRICT[1])
@example({"v": None}, STRICT[1])
@example({"v": ["a"]}, STRICT[2])
def test_a_plain_payload_is_within_the_limits_of_types_keys_and_lists(payload: dict[str, Any], within: Limits) -> None:
    if plain(within, restricted=True).holds(payload):
        for key, value in payload.items():
            assert within.holds_key(key)
            assert within.holds(value)
            for inner in value if isinstance(value, list) else [value]:
                assert json_type(inner) in within.types


def test_a_usual_payload_is_plain() -> None:
    usual = {"title": "a text", "count": 2**62, "price": -0.0, "sold": True, "tags": ["a", "b"]}
    assert plain(limits(65_536)).holds({**usual, "none": None, "mixed": ["a", 1, 0.5, False]})
    fitting = {**usual, "count": 7, "price": 0.5}
    assert plain(STRICT[0].model_copy(update={"max_payload_bytes": None}), restricted=True).holds(fitting)
    for value in ("é", float("nan"), 2**63, {"a": 1}, [["a"]], (1,), b"x", [2**63], [float("inf")], ["é"]):
        assert not plain(limits(None)).holds({"v": value})
