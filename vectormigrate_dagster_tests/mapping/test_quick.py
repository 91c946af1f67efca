"""The quick looks agree with the whole checks: what they let pass, these would let pass too."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vectormigrate_dagster.mapping.payloads import misfit
from vectormigrate_dagster.mapping.plain import is_plain
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


@given(st.dictionaries(st.text(max_size=4) | st.just("\ud800"), VALUES, max_size=4), st.integers(2, 300))
def test_a_plain_payload_is_within_every_limit(payload: dict[str, Any], most: int) -> None:
    if not is_plain(payload, min_int=-(2**63), max_int=2**63 - 1, max_bytes=most):
        return
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert len(text.encode()) <= most
    for value in payload.values():
        for inner in value if isinstance(value, list) else [value]:
            assert not isinstance(inner, int) or -(2**63) <= inner < 2**63


def test_a_usual_payload_is_plain() -> None:
    usual = {"title": "a text", "count": 2**62, "price": -0.0, "sold": True, "none": None, "tags": ["a", 1, 0.5, False]}
    assert is_plain(usual, min_int=-(2**63), max_int=2**63 - 1, max_bytes=65_536)
    for value in ("é", float("nan"), 2**63, {"a": 1}, [["a"]], (1,), b"x"):
        assert not is_plain({"v": value}, min_int=-(2**63), max_int=2**63 - 1, max_bytes=None)
