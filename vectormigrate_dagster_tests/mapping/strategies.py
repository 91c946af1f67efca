"""Hypothesis strategies: ids, payloads and batches that a database may hold."""

from __future__ import annotations

from hypothesis import strategies as st

from vectormigrate_dagster.model import Batch, IdKind
from vectormigrate_dagster_tests.mapping.support import batch

KEYS = st.one_of(
    st.sampled_from(["id", "id_", "pk", "vector", "vector__", "$meta", "a.b", "a b", "é", "", "x", "_source_id_"]),
    st.text(st.characters(codec="utf-8"), max_size=4).filter(lambda key: key not in ("_source_id", "_source_scope")),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2**53 + 1, 2**63 - 1, -(2**63)]),
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300]),
    st.sampled_from(["", "123", "true", "null", "2026-01-01T00:00:00Z", "text:abc"]),
    st.text(st.characters(codec="utf-8"), max_size=6),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=5)
IDS = {
    IdKind.U64: st.integers(0, 2**64 - 1),
    IdKind.I64: st.integers(-(2**63), 2**63 - 1),
    IdKind.UUID: st.uuids(),
    IdKind.TEXT: st.one_of(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=6),
        st.integers(0, 99).map(str),
        st.uuids().map(str),
        st.uuids().map(lambda value: str(value).upper()),
    ),
}


@st.composite
def batches(
    draw: st.DrawFn, kinds: tuple[IdKind, ...], name: str, scopes: tuple[str | None, ...] = (None,)
) -> list[Batch]:
    found = []
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2, unique=True)):
        for scope in scopes:
            ids = draw(st.lists(IDS[kind], min_size=1, max_size=6, unique=True))
            payloads = draw(st.lists(PAYLOADS, min_size=len(ids), max_size=len(ids)))
            found.append(batch(kind, ids, payloads, name=name, scope=scope))
    return found
