"""Checks that msgspec has met every kind of answer of Pinecone's client before two threads meet it: that crashes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from pinecone._internal.adapters import _decode

from vectormigrate_dagster.databases import open_target
from vectormigrate_dagster.databases.pinecone import answers
from vectormigrate_dagster.model import Metric, VectorSchema
from vectormigrate_dagster_tests.databases.pinecone_support import DENSE, endpoint, everything, ids_of, plain, schema
from vectormigrate_dagster_tests.emulators.pinecone import PineconeStandIn


class Watched:
    """Stands for msgspec in the client; notes what it is asked to make, and whether that was prepared by then."""

    ValidationError, DecodeError = msgspec.ValidationError, msgspec.DecodeError

    def __init__(self) -> None:
        self.json = self
        self.made: dict[str, bool] = {}

    def decode(self, data: bytes, *, type: type, **options: Any) -> Any:
        self.made[type.__name__] = type in answers._prepared
        return msgspec.json.decode(data, type=type, **options)


@pytest.mark.parametrize(
    "vector", [DENSE, VectorSchema(name="meaning", dim=2, metric=Metric.COSINE)], ids=["vectors", "documents"]
)
def test_every_kind_of_answer_is_met_before_a_thread_can_meet_it(
    vector: VectorSchema, pinecone_stand_in: PineconeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    monkeypatch.setattr(_decode, "msgspec", watched)
    monkeypatch.setattr(answers, "_prepared", set())
    batch = plain(["a", "b"], vector=vector.name)
    with open_target(endpoint(pinecone_stand_in, prefer_grpc=False)) as database:
        database.create(schema(vector))
        database.upsert(batch)
        database.wait_visible()
        assert database.count() == 2
        assert database.scopes() == []
        assert ids_of(everything(database)) == ["a", "b"]
        assert len(database.fetch(batch.ids).batch) == 2
        assert database.search(np.ones((1, 2), dtype=np.float32), 1, vector=vector.name).ids
        database.delete(batch.ids)
        database.drop()
    assert len(watched.made) >= 7, watched.made
    assert all(watched.made.values()), watched.made
