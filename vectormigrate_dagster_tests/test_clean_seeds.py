"""Checks that a clean migration fails no tier: random records, by seed, over all directions.

CI runs 3 seeds in every direction; `VECTORMIGRATE_SEEDS=50` runs as many.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from vectormigrate_dagster.databases import TYPES
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    Dense,
    Id,
    IdColumn,
    IdKind,
    Metric,
    Multi,
    Payload,
    Sparse,
    VectorColumn,
)
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.everything import everything
from vectormigrate_dagster_tests.matrix_features import Sample
from vectormigrate_dagster_tests.matrix_runs import Side, sides
from vectormigrate_dagster_tests.mutations.running import Direction

SEEDS = int(os.environ.get("VECTORMIGRATE_SEEDS", "3"))
DIRECTIONS = list(product(TYPES, TYPES))


@pytest.fixture(scope="module")
def found(
    pinecone_collections: Collections,
    qdrant_collections: Collections,
    weaviate_collections: Collections,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, Side]]:
    servers = {"pinecone": pinecone_collections, "qdrant": qdrant_collections, "weaviate": weaviate_collections}
    with sides(tmp_path_factory.mktemp("milvus"), servers) as found:
        yield found


@pytest.mark.parametrize(("source", "target"), DIRECTIONS, ids=[f"{a}-{b}" for a, b in DIRECTIONS])
def test_h22_a_clean_migration_fails_no_tier(
    source: str, target: str, found: Mapping[str, Side], record_property: Callable[[str, object], None]
) -> None:
    records = 0
    for seed in range(SEEDS):
        chance = np.random.default_rng([seed, DIRECTIONS.index((source, target))])
        direction = Direction(found[source], found[target], random_sample(found[source].can, chance))
        with direction.opened() as opened:
            records += len(opened.records)
            for report in opened.reports(seed=seed):
                wrong = [(tier.tier, tier.statement, tier.differences[:2]) for tier in report.tiers if not tier.passed]
                assert wrong == [], f"seed {seed}"
                assert [tier.tier for tier in report.tiers] == ["count", "ids", "records", "search"]
        direction.drop()
    assert records >= 6 * SEEDS
    record_property("told", f"{source} to {target}: {SEEDS} seeds, {records:,} records, no tier failed")


def random_sample(can: Capabilities, chance: np.random.Generator) -> Sample:
    """Random records with what `everything` has of payloads and vectors, under random ids, whole or in scopes."""
    kind = can.id_kinds[int(chance.integers(len(can.id_kinds)))]
    sample = everything(can, kind, divided=bool(chance.integers(2)))
    first, *others = sample.schema.vectors
    metric = [one for one in (Metric.DOT, Metric.COSINE, Metric.EUCLIDEAN) if one in can.metrics[first.kind]]
    vectors = (first.model_copy(update={"metric": metric[int(chance.integers(len(metric)))]}), *others)
    payloads = [payload for batch in sample.batches for payload in batch.payloads]
    used: set[Id] = set()
    batches = [random_batch(batch, payloads, chance, can, used) for batch in sample.batches]
    return Sample(sample.schema.model_copy(update={"vectors": vectors}), tuple(batches))


def random_batch(
    like: Batch, payloads: list[Payload], chance: np.random.Generator, can: Capabilities, used: set[Id]
) -> Batch:
    """A batch with columns like those of another one; an id comes twice only where scopes keep equal ids apart."""
    count = int(chance.integers(6, 18))
    ids = {random_id(like.ids.kind, chance) for _ in range(count)} - (set() if can.ids_are_unique_per_scope else used)
    used |= ids
    rows = chance.integers(len(like), size=len(ids))
    columns = {name: random_column(column.take(rows), chance) for name, column in like.vectors.items()}
    chosen = [dict(payloads[int(row)]) for row in chance.integers(len(payloads), size=len(ids))]
    return replace(like, ids=IdColumn.of(like.ids.kind, sorted(ids)), vectors=columns, payloads=chosen)


def random_id(kind: IdKind, chance: np.random.Generator) -> Id:
    """An id of a kind, from anywhere in its space."""
    octets = chance.bytes(16)
    number = int.from_bytes(octets[: int(chance.integers(1, 9))], "big")
    if kind is IdKind.UUID:
        return uuid.UUID(bytes=octets)
    if kind is IdKind.TEXT:
        return octets.hex()[: int(chance.integers(1, 33))]
    return number if kind is IdKind.U64 else number - 2**63


def random_column(column: VectorColumn, chance: np.random.Generator) -> VectorColumn:
    """A column of the same kind, with the same vectors missing, of random values of random size."""
    if isinstance(column, Sparse):
        return replace(column, values=chance.uniform(0.01, 9, len(column.values)).astype(np.float32))
    assert isinstance(column, Dense | Multi)
    values = chance.standard_normal(column.values.shape) * 10.0 ** chance.integers(-3, 4)
    values = values.astype(np.float32)
    if isinstance(column, Dense) and column.valid is not None:
        values[~column.valid] = 0
    return replace(column, values=values)
