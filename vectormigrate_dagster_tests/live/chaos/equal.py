"""Whether both sides hold the same: by id set and by record digests, read whole, after the plan's own mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, Dense, id_text
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster_tests.live.chaos import records
from vectormigrate_dagster_tests.live.chaos.history import Place
from vectormigrate_dagster_tests.live.chaos.world import World, patient

Digest = bytes
Id = tuple[str | None, str]


@dataclass(frozen=True)
class Sides:
    """What both sides hold.

    Args:
        values: of the source, by record.
        promised: digests of what the target should hold.
        found: digests of what it holds.
        torn: records of the source whose vector is not that of their value.
    """

    values: dict[Place, str]
    promised: dict[Id, Digest]
    found: dict[Id, Digest]
    torn: list[Place]

    def wrong(self) -> list[str]:
        """How the sides differ; empty if they do not."""
        missing = sorted(self.promised.keys() - self.found.keys(), key=str)
        extra = sorted(self.found.keys() - self.promised.keys(), key=str)
        both = self.promised.keys() & self.found.keys()
        other = sorted((key for key in both if self.promised[key] != self.found[key]), key=str)
        told = (("missing in the target", missing), ("only in the target", extra), ("different", other))
        return [f"{len(ids)} {what}: {ids[:5]}" for what, ids in (*told, ("torn", self.torn)) if ids]


def read(world: World) -> Sides:
    """Read both sides whole."""
    mapper = RecordMapper(world.plan.mapping)
    values: dict[Place, str] = {}
    promised: dict[Id, Digest] = {}
    torn: list[Place] = []
    for batch in _scan(world.source):
        for place, value, vector in _records(batch):
            assert place not in values, f"{place} is there twice"
            values[place] = value
            if vector != records.vector(value).tobytes():
                torn.append(place)
        mapped = mapper.map(batch)
        assert not mapped.refused, mapped.refused
        for part in mapped.batches:
            promised |= _digests(part)
    found: dict[Id, Digest] = {}
    for batch in _scan(world.target):
        found |= _digests(batch)
    return Sides(values, promised, found, torn)


def _scan(endpoint: Endpoint) -> Iterator[Batch]:
    with databases.open_source(patient(endpoint)) as source:
        source.probe()
        for split in source.plan_splits(1_000_000):
            yield from source.scan(split)


def _records(batch: Batch) -> Iterator[tuple[Place, str, bytes]]:
    (vectors,) = batch.vectors.values()
    assert isinstance(vectors, Dense)
    for payload, vector in zip(batch.payloads, vectors.values, strict=True):
        yield (batch.scope, int(payload["number"])), payload["value"], vector.tobytes()


def _digests(batch: Batch) -> dict[Id, Digest]:
    ids = [(batch.scope, f"{batch.ids.kind.value} {id_text(value)}") for value in batch.ids.to_pylist()]
    return dict(zip(ids, record_digests(batch).tolist(), strict=True))
