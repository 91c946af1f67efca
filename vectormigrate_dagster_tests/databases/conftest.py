"""The databases that the contract suite runs against. A new one is one more `DatabaseCase` in `CASES`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Database, Endpoint, capabilities_of, open_target
from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    CollectionSchema,
    Dense,
    Id,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    VectorSchema,
)

AWKWARD_TEXTS = [
    'double "quotes"', "single 'quotes'", "back\\slash", "\\", '"', "' or 1 == 1 or '", "tab\t", "line\nbreak", "\r",
    "é", "日本語", "🎉", " ", "a b", "%", "/", "\x01", "\x7f", "{x}", "42", "042", "-1", "\u2028",
]  # fmt: skip


@dataclass(frozen=True)
class DatabaseCase:
    """One database in one mode.

    Args:
        name: id of the parameter.
        endpoint: makes an endpoint out of the test's own folder and a collection's name.
        capabilities: what it declares.
        exact_index: an index whose answers are exact; None where every answer can be.
    """

    name: str
    endpoint: Callable[[Path, str], Endpoint]
    capabilities: Capabilities
    exact_index: IndexSpec | None = None

    @property
    def vector(self) -> str:
        return self.capabilities.default_vector_name

    def schema(self, *, kind: IdKind | None = None, metric: Metric = Metric.DOT, dim: int = 4) -> CollectionSchema:
        """The plainest collection: one dense vector, no fields; of all id kinds that it can hold at once."""
        kinds = self.capabilities.id_kinds if self.capabilities.mixed_id_kinds else (kind or self.kinds[0],)
        vector = VectorSchema(name=self.vector, dim=dim, metric=metric, index=self.exact_index)
        return CollectionSchema(name="things", ids=IdSchema(kinds=kinds), vectors=(vector,))

    @property
    def kinds(self) -> Sequence[IdKind]:
        return self.capabilities.id_kinds


def embedded(type: str, exact_index: IndexSpec | None = None) -> DatabaseCase:
    return DatabaseCase(
        name=f"{type}-embedded",
        endpoint=lambda folder, collection: Endpoint(type=type, path=folder / f"{type}.db", collection=collection),
        capabilities=capabilities_of(type, embedded=True),
        exact_index=exact_index,
    )


CASES = [embedded("qdrant"), embedded("milvus", IndexSpec(type="FLAT"))]

Opener = Callable[..., Database]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> DatabaseCase:
    return request.param


@pytest.fixture
def opened(case: DatabaseCase, tmp_path: Path) -> Iterator[Opener]:
    """Opens collections of the case that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda collection="things": stack.enter_context(open_target(case.endpoint(tmp_path, collection)))


def some_ids(kind: IdKind, n: int, seed: int = 0) -> list[Id]:
    """n different ids in random order, with the kind's extremes and awkward ones among them."""
    random = np.random.default_rng(seed)
    numbers = [int(value) for value in random.choice(10 * n + 10, size=n, replace=False)]
    ids: list[Any]
    if kind is IdKind.U64:
        ids = [0, 2**64 - 1, 2**63, *numbers]
    elif kind is IdKind.I64:
        ids = [0, -1, 2**63 - 1, -(2**63), *(value * (-1) ** value for value in numbers)]
    elif kind is IdKind.UUID:
        ids = [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), *(uuid.UUID(bytes=random.bytes(16)) for _ in numbers)]
    else:
        ids = [*AWKWARD_TEXTS, *(f"id-{value}" for value in numbers)]
    different = list(dict.fromkeys(ids))[:n]
    random.shuffle(different)
    return different


def records(case: DatabaseCase, ids: Sequence[Id], kind: IdKind, *, dim: int = 4, seed: int = 0) -> Batch:
    """A batch of random vectors that are not normalised, whose payload names the id."""
    vectors = np.random.default_rng(seed).standard_normal((len(ids), dim)).astype(np.float32) * 3
    return Batch(
        ids=IdColumn.of(kind, ids),
        vectors={case.vector: Dense(vectors)},
        payloads=[{"name": str(value), "n": i} for i, value in enumerate(ids)],
    )


def content(batches: Sequence[Batch]) -> dict[Id, tuple[dict[str, Any], dict[str, Any]]]:
    """id -> (payload, vector name -> bytes), for comparing whole collections."""
    return {
        value: (
            batch.payloads[i],
            {name: column.take([i]).values.tobytes() for name, column in batch.vectors.items()},
        )
        for batch in batches
        for i, value in enumerate(batch.ids.to_pylist())
    }
