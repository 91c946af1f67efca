"""Checks that a validation notices every way of being wrong, in every direction, and names the records (H-22).

CI runs one mutation of each kind in every direction and all of them in a few; `VECTORMIGRATE_MUTATIONS=all` runs all in
all, and `python -m vectormigrate_dagster_tests.mutations` prints them with what noticed them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
from pymilvus import MilvusClient

from vectormigrate_dagster.databases import Database, Endpoint
from vectormigrate_dagster.databases.milvus.records import among
from vectormigrate_dagster.model import Batch, Capabilities, Metric
from vectormigrate_dagster_tests.everything import everything
from vectormigrate_dagster_tests.matrix_features import Sample
from vectormigrate_dagster_tests.matrix_runs import Side, side_of
from vectormigrate_dagster_tests.mutations.catalog import COUNT, IDS, RECORDS, SEARCH
from vectormigrate_dagster_tests.mutations.running import CLEAN, Direction, Result

LONG = os.environ.get("VECTORMIGRATE_MUTATIONS") == "all"
SERVERS = ("milvus", "pinecone", "qdrant", "weaviate")
QUICK = ("milvus-lite", "pinecone", "qdrant", "weaviate")
EMBEDDED = ("milvus-lite", "qdrant-local")
UNREADABLE = 2**63 - 1
"""An id that a Milvus server would count and never return, so that it is refused."""

COMPLETE = {
    ("qdrant", "milvus-lite"),
    ("milvus-lite", "qdrant-local"),
    ("weaviate", "pinecone"),
    ("pinecone", "weaviate"),
}
"""Directions in which CI runs every mutation."""


@dataclass(frozen=True)
class Form:
    """How the records of a direction are made: by their first vector's metric, and undivided or in scopes."""

    name: str
    divided: bool
    metric: Metric

    def sample(self, can: Capabilities) -> Sample:
        """Everything that a database can hold."""
        made = everything(can, can.id_kinds[0 if self.divided else -1], divided=self.divided)
        first, *others = made.schema.vectors
        metric = self.metric if self.metric in can.metrics[first.kind] else first.metric
        vectors = (first.model_copy(update={"metric": metric}), *others)[: can.max_vectors]
        fields = made.schema.fields if can.null_fields else ()  # an old server's columns are none of ours
        names = {vector.name for vector in vectors}
        batches = tuple(
            replace(one, vectors={name: column for name, column in one.vectors.items() if name in names})
            for batch in made.batches
            for one in [batch.take([row for row, value in enumerate(batch.ids.to_pylist()) if value != UNREADABLE])]
        )
        return Sample(made.schema.model_copy(update={"vectors": vectors, "fields": fields}), batches)


WHOLE, DIVIDED, BY_ANGLE = (
    Form("whole", divided=False, metric=Metric.DOT),
    Form("in scopes", divided=True, metric=Metric.DOT),
    Form("by angle", divided=False, metric=Metric.COSINE),
)


def cases() -> Iterator[tuple[str, str, Form]]:
    """Source, target, form."""
    if LONG:
        yield from product((*SERVERS, *EMBEDDED), (*SERVERS, *EMBEDDED), (WHOLE, DIVIDED, BY_ANGLE))
        return
    pairs = [
        *product(QUICK, QUICK),
        ("milvus-lite", "qdrant-local"),
        ("qdrant-local", "milvus-lite"),
        ("qdrant", "milvus"),
    ]
    for number, (source, target) in enumerate(pairs):
        yield source, target, (WHOLE, DIVIDED)[number % 2]
    yield "milvus-lite", "qdrant", BY_ANGLE


@pytest.fixture(scope="module")
def side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Side]:
    """Gives a database by its name; each is opened when it is first needed."""
    folder = tmp_path_factory.mktemp("embedded")
    made: dict[str, Side] = {}
    numbers = iter(range(10_000))

    def embedded(name: str) -> Callable[[str], Endpoint]:
        path = folder / name
        return lambda prefix: Endpoint(type=name.partition("-")[0], path=path, collection=f"{prefix}_{next(numbers)}")

    def get(name: str) -> Side:
        if name not in made:
            new = embedded(name) if name in EMBEDDED else request.getfixturevalue(f"{name}_collections")
            made[name] = side_of(new)
        return made[name]

    return get


CASES = list(cases())


@pytest.mark.parametrize(("source", "target", "form"), CASES, ids=[f"{a}-{b}-{form.name}" for a, b, form in CASES])
def test_h22_every_mutation_is_noticed_by_the_right_tier_which_names_the_records(
    source: str,
    target: str,
    form: Form,
    side: Callable[[str], Side],
    record_property: Callable[[str, object], None],
) -> None:
    complete = LONG or (source, target) in COMPLETE
    direction = Direction(side(source), side(target), form.sample(side(source).can))
    with direction.opened() as opened:
        repeat = insert_again if target == "milvus" else None
        results = list(opened.results(complete=complete, repeat=repeat))
    record_property("told", table(f"{source} to {target}, {form.name}", results))
    assert [one for one in results if one.applies and not one.caught] == []
    noticed = Counter(tier for one in results if one.applies for tier in one.wanted)
    assert noticed.keys() == {COUNT, IDS, RECORDS, SEARCH}
    assert noticed[RECORDS] >= (10 if complete else 3)
    assert [one.mutation for one in results[:1] + results[-1:]] == [CLEAN, CLEAN]


def insert_again(database: Database, record: Batch) -> None:
    """Insert a record of a Milvus server once more, which it does not refuse."""
    endpoint = database.endpoint
    token = "" if endpoint.api_key is None else endpoint.api_key.get_secret_value()
    name, scope = endpoint.collection, record.scope
    client = MilvusClient(str(endpoint.url), token=token, db_name=endpoint.options.model_dump().get("database") or "")
    try:
        chosen = among(str(database.describe().ids.field), record.ids.to_pylist())
        rows = client.query(
            name, filter=chosen, output_fields=["*"], partition_names=None if scope is None else [scope]
        )
        client.insert(name, rows, partition_name=scope)
        client.flush(name)
    finally:
        client.close()


def table(title: str, results: Sequence[Result]) -> str:
    """Every mutation with what came out, for people."""
    applied = [one for one in results if one.applies and one.wanted]
    score = sum(one.caught for one in applied)
    lines = [f"{title}: {score} of {len(applied)} mutations noticed and named"]
    if LONG:
        lines += [row(one) for one in results]
    return "\n".join(lines)


def row(one: Result) -> str:
    """One mutation as a line."""
    if not one.applies:
        return f"  {'-':8} {one.mutation:48} the target cannot tell it apart"
    verdict = "ok" if one.caught else "MISSED"
    wanted, failed = (", ".join(sorted(tiers)) or "none" for tiers in (one.wanted, one.failed))
    named = "" if not one.wanted else "named" if one.named else "NOT NAMED"
    return f"  {verdict:8} {one.mutation:48} must fail: {wanted:14} failed: {failed:24} {named:10} {one.how}"
