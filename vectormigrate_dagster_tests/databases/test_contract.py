"""The contract of `databases.base.Database` for a collection: its schema, its readers and writers, its lifetime.

For every database and mode in `conftest.CASES`. Records: `test_records_contract`; searches: `test_search_contract`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Database, Source, open_source
from vectormigrate_dagster.databases.watch import watched
from vectormigrate_dagster.errors import LeaseHeld, NotFound, SchemaMismatch
from vectormigrate_dagster.model import Metric, Split, VectorSchema
from vectormigrate_dagster_tests.databases.conftest import (
    EACH_METRIC,
    DatabaseCase,
    Opener,
    content,
    everything,
    ids_of,
    numbered,
    records,
    some_ids,
)

########################################################################
# Schema
########################################################################


def test_create_and_describe_agree(case: DatabaseCase, opened: Opener) -> None:
    schema = case.schema(metric=Metric.EUCLIDEAN).model_copy(update={"marker": {"migration": "m", "n": 1, "é": None}})
    database = opened()
    database.create(schema)
    described = database.describe()
    assert described.name == case.rename("things")
    assert described.ids.kinds == schema.ids.kinds
    assert described.marker == schema.marker
    assert described.dynamic == case.capabilities.dynamic_fields
    assert [(v.name, v.kind, v.dim, v.metric, v.element) for v in described.vectors] == [
        (v.name, v.kind, v.dim, v.metric, v.element) for v in schema.vectors
    ]


@pytest.mark.parametrize(("case", "metric"), EACH_METRIC)
def test_h24_every_metric_survives(case: DatabaseCase, metric: Metric, opened: Opener) -> None:
    database = opened()
    database.create(case.schema(metric=metric))
    assert database.describe().vector(case.vector).metric is metric


def test_a_collection_is_described_the_same_after_reopening(case: DatabaseCase, opened: Opener) -> None:
    first = opened()
    first.create(case.schema().model_copy(update={"marker": {"a": [1]}}))
    described = first.describe()
    first.close()
    assert opened().describe() == described


def test_create_refuses_an_existing_collection(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    database.create(case.schema())
    with pytest.raises(SchemaMismatch, match="things"):
        database.create(case.schema())


def test_create_names_everything_that_is_impossible(case: DatabaseCase, opened: Opener) -> None:
    impossible = VectorSchema(name="bad", dim=case.capabilities.max_dim + 1, metric=Metric.COSINE)
    schema = case.schema().model_copy(update={"vectors": (impossible,)})
    with pytest.raises(SchemaMismatch, match=rf"'bad' has {impossible.dim} dimensions"):
        opened().create(schema)


def test_drop_removes_the_collection_and_may_be_repeated(case: DatabaseCase, opened: Opener) -> None:
    database = opened()
    database.drop()
    database.create(case.schema())
    database.upsert(records(case, some_ids(case, case.kinds[0], 3), case.kinds[0]))
    database.drop()
    database.drop()
    with pytest.raises(NotFound):
        database.describe()
    database.create(case.schema(dim=2))
    assert database.count() == 0
    assert database.describe().vector(case.vector).dim == 2


########################################################################
# Readers, writers and lifetime
########################################################################


def test_a_missing_collection_is_not_found_by_any_reader(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    opened("other").create(case.schema())
    database = opened("things")
    readers = {
        "describe": database.describe,
        "count": database.count,
        "scopes": database.scopes,
        "plan_splits": lambda: database.plan_splits(10),
        "scan": lambda: list(database.scan(Split(kind=kind))),
        "fetch": lambda: database.fetch(numbered(kind, [1])),
        "search": lambda: database.search(np.ones((1, 4), dtype=np.float32), 1, vector="v"),
    }
    for name, read in readers.items():
        with pytest.raises(NotFound, match="'things'"):
            pytest.fail(f"{name} returned {read()}")


def test_whoever_watches_a_call_is_asked_before_it_writes(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    database = opened()
    database.create(case.schema())
    database.upsert(records(case, [1, 2], kind))

    def refuse() -> None:
        raise LeaseHeld("another worker has taken over")

    with watched(refuse):
        with pytest.raises(LeaseHeld):
            database.upsert(records(case, [3, 4], kind))
        with pytest.raises(LeaseHeld):
            database.delete(numbered(kind, [1, 2]))
    database.wait_visible()
    assert database.count() == 2
    assert len(database.fetch(numbered(kind, [1, 2, 3, 4])).batch) == 2


def test_records_outlive_the_object_that_wrote_them(case: DatabaseCase, opened: Opener) -> None:
    kind = case.kinds[0]
    batch = records(case, some_ids(case, kind, 15), kind)
    first = opened()
    first.create(case.schema())
    first.upsert(batch)
    first.close()
    first.close()
    assert content(everything(opened())) == content([batch])


def test_h23_reading_a_source_changes_nothing(case: DatabaseCase, opened: Opener, where: Any) -> None:
    kind = case.kinds[0]
    batch = records(case, some_ids(case, kind, 25), kind)
    database = opened()
    database.create(case.schema())
    database.upsert(batch)
    before = database.describe()
    with open_source(case.endpoint(where, "things")) as source:
        splits = source.plan_splits(4)
        assert ids_of(everything(source, splits)) == sorted(batch.ids.to_pylist())
        source.fetch(batch.ids)
        source.search(np.ones((1, 4), dtype=np.float32), 3, vector=case.vector)
        source.ping()
    assert database.describe() == before
    assert content(everything(database)) == content([batch])


def test_a_source_has_no_method_that_writes() -> None:
    writing = {"create", "drop", "upsert", "delete", "prepare_bulk_load", "resume_indexing", "finish_bulk_load"}
    assert writing < set(dir(Database))
    assert not writing & set(dir(Source))
