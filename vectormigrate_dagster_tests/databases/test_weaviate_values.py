"""Whatever Weaviate accepts from us it gives back bit by bit (H-13); hypothesis makes the records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Database, open_target
from vectormigrate_dagster.databases.weaviate.values import by_name, misfit, unreadable
from vectormigrate_dagster.model import Batch, Dense, FieldType
from vectormigrate_dagster.model.compare import same_value
from vectormigrate_dagster_tests.databases.weaviate_support import FIELDS, LISTS, endpoint, field, ids, schema
from vectormigrate_dagster_tests.emulators.weaviate import WeaviateServer


def _date(seconds: int, nanos: int, minutes: int) -> str:
    """In the form in which Go writes it."""
    moment = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=max(-(2**35), seconds))
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    zone = "Z" if minutes == 0 else local.isoformat()[-6:]
    return f"{local.replace(tzinfo=None).isoformat()}{fraction}{zone}"


FIELDS_OF_VALUES = [
    *(one for one in FIELDS if one.name not in ("phone", "file", "reference")),
    field("reference", FieldType.REFERENCE, targets=("Values",)),
]
"""A telephone number is only stored if it is one, and blobs have tests of their own."""

TEXTS = st.text(max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
DATES = st.builds(
    _date,
    st.integers(-(2**35), 2**37),
    st.integers(0, 10**9 - 1) | st.just(0),
    st.integers(-14 * 60, 14 * 60),
)
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.TEXT: TEXTS,
    FieldType.INT64: st.integers(-(2**53), 2**53),
    FieldType.FLOAT64: FLOATS,
    FieldType.BOOL: st.booleans(),
    FieldType.DATETIME: DATES,
    FieldType.UUID: st.uuids().map(str),
    FieldType.GEO: st.fixed_dictionaries({"latitude": FLOATS32, "longitude": FLOATS32}),
    FieldType.BLOB: st.sampled_from(["AA==", "AAE=", "AAEC", "////"]),
}
INSIDE = st.fixed_dictionaries(
    {},
    optional={
        "number": st.none() | VALUES[FieldType.INT64],
        "Capital": TEXTS,
        "float64s": st.lists(FLOATS, max_size=3),
        "deeper": st.fixed_dictionaries({}, optional={"when": DATES, "texts": st.lists(TEXTS, max_size=3)}),
        "objects": st.lists(st.fixed_dictionaries({}, optional={"flag": st.booleans()}), max_size=3),
    },
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        **{type_.value: value for type_, value in VALUES.items()},
        **{f"{type_.value}s": st.lists(VALUES[type_], max_size=4) for type_ in LISTS},
        "object": INSIDE,
        "objects": st.lists(INSIDE, max_size=3),
        "reference": st.lists(st.uuids().map(lambda one: f"weaviate://localhost/Values/{one}"), max_size=2),
    },
)


@pytest.fixture(scope="module")
def things(weaviate_server: WeaviateServer) -> Iterator[Database]:
    with open_target(endpoint(weaviate_server, "values")) as database:
        database.drop()
        database.create(schema(fields=FIELDS_OF_VALUES))
        yield database
        database.drop()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=8))
def test_h13_what_is_accepted_comes_back_as_it_was(things: Database, payloads: list[dict[str, Any]]) -> None:
    column = ids(range(len(payloads)))
    vectors = {"v": Dense(np.ones((len(payloads), 2), np.float32))}
    assert things.upsert(Batch(column, None, vectors, payloads)) == []
    read = things.fetch(column).batch.payloads
    assert [one for one, two in zip(payloads, read, strict=True) if not same_value(one, two)] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | DATES | st.uuids().map(str),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["number", "Capital", "latitude", "longitude", "input", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from([one.name for one in FIELDS_OF_VALUES]), value=JSON)
def test_h13_any_other_value_is_refused_or_comes_back(things: Database, name: str, value: Any) -> None:
    """Nothing changes in silence: what the rules let through, the server gives back."""
    fields = by_name(FIELDS_OF_VALUES)
    payload = {name: value}
    refused = misfit(payload, fields) or unreadable(payload, fields)
    column = ids([2**100])
    vectors = {"v": Dense(np.ones((1, 2), np.float32))}
    refusals = things.upsert(Batch(column, None, vectors, [payload]))
    assert [one.reason for one in refusals] == ([refused] if refused else [])
    if not refused:
        (read,) = things.fetch(column).batch.payloads
        assert same_value(read, payload)
