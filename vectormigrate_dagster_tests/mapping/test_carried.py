"""Payloads that are still encoded are passed on undecoded only where the plan does nothing with them.

Either way records become what they become when the same payloads come as dictionaries.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    Dense,
    EncodedPayloads,
    IdColumn,
    IdKind,
    Payload,
    PayloadForm,
    octets_in,
)
from vectormigrate_dagster_tests.mapping.support import (
    DIM,
    MILVUS_SERVER,
    PINECONE,
    QDRANT_SERVER,
    WEAVIATE,
    Profiler,
    qdrant_schema,
)

PAYLOADS: list[Payload] = [{"a": 1, "b": {"c": [None, 0.5]}}, {"t": "é"}, {}]


class Undecoded(Exception):
    """Somebody looked at a payload."""


def refuse(octets: bytes) -> Payload:
    raise Undecoded(octets)


def batch(payloads: Any) -> Batch:
    ids = IdColumn.of(IdKind.U64, range(len(payloads)))
    return Batch(ids, None, {"": Dense(np.ones((len(payloads), DIM), np.float32))}, payloads)


def encoded(form: PayloadForm, payloads: list[Payload]) -> Batch:
    return batch(EncodedPayloads(form, [json.dumps(payload, ensure_ascii=False).encode() for payload in payloads]))


def mapper(target: Capabilities, payloads: list[Payload], **options: Any) -> RecordMapper:
    profiler = Profiler()
    profiler.add(batch(payloads))
    mapping, _ = map_schema(
        qdrant_schema(), QDRANT_SERVER, target, MappingConfig(**options), profiler.profile(), collection="films"
    )
    return RecordMapper(mapping)


def test_they_pass_as_they_are_where_the_plan_does_nothing_with_them() -> None:
    form = PayloadForm("JSON", refuse)
    given = encoded(form, PAYLOADS)
    (made,) = mapper(QDRANT_SERVER, PAYLOADS).map(given).batches
    assert octets_in(form, made.payloads) == octets_in(form, given.payloads)


@pytest.mark.parametrize(
    ("target", "options", "more"),
    [
        (QDRANT_SERVER, {"rename": {"a": "z"}}, []),
        (QDRANT_SERVER, {"drop": ("b",)}, []),
        (QDRANT_SERVER, {}, [{"_source_json": '{"k":1}'}]),
        (PINECONE, {}, []),
        (MILVUS_SERVER, {}, []),
        (WEAVIATE, {}, []),
    ],
    ids=["renamed", "dropped", "packed", "pinecone", "milvus", "weaviate"],
)
def test_they_are_decoded_where_it_does(target: Capabilities, options: dict[str, Any], more: list[Payload]) -> None:
    payloads = [*PAYLOADS, *more]
    mapping = mapper(target, payloads, **options)
    with pytest.raises(Undecoded):
        mapping.map(encoded(PayloadForm("JSON", refuse), payloads))
    found = mapping.map(encoded(PayloadForm("JSON", json.loads), payloads))
    told = mapping.map(batch(payloads))
    assert [repr(list(each.payloads)) for each in found.batches] == [repr(list(each.payloads)) for each in told.batches]
    assert found.refused == told.refused


def test_values_out_of_a_text_are_looked_at_although_the_others_are_held() -> None:
    payloads: list[Payload] = [{"_source_json": '{"k":99999999999999999999999}'}, {"a": 1}]
    mapping = mapper(QDRANT_SERVER, PAYLOADS)
    found, told = mapping.map(encoded(PayloadForm("JSON", json.loads), payloads)), mapping.map(batch(payloads))
    assert found.refused == told.refused
    assert [refusal.id for refusal in found.refused] == ["0"]
