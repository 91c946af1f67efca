"""Runs cells of the matrix for real: a sample into a source, the plan, the transfer, and what both sides hold then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, MappingConfig, Migration, TransferConfig
from vectormigrate_dagster.databases import Database, Endpoint, Refusal, Source, capabilities_of
from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.mapping.plan import Plan, make_plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Capabilities, CollectionSchema
from vectormigrate_dagster.transfer.pipeline import transfer_split
from vectormigrate_dagster_tests.matrix_features import Sample
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.observations import Moved, Record, as_json, bits, read


@dataclass(frozen=True)
class Side:
    """A database in which collections can be made.

    Args:
        new: names a new collection and returns what opens it.
        can: what the database can do, as it told when it was asked.
    """

    new: Callable[[], Place]
    can: Capabilities


Place = Callable[[], Database]
"""Opens a collection."""


class Newest(MemoryDatabase):
    """A collection in memory that declares what the newest server of a database can."""

    def __init__(self, type: str) -> None:
        super().__init__("Newest")
        self.capabilities = capabilities_of(type)
        self.there = False

    @classmethod
    def side(cls, type: str) -> Side:
        """Where such collections are made."""

        def new() -> Place:
            database = cls(type)
            return lambda: database

        return Side(new, capabilities_of(type))

    def describe(self) -> CollectionSchema:
        if not self.there:
            raise NotFound("there is no such collection")
        return super().describe()

    def create(self, schema: CollectionSchema) -> None:
        super().create(schema)
        self.there = True

    def close(self) -> None:
        """Nothing: other handles are this one."""


@contextmanager
def sides(folder: Path, servers: Mapping[str, Callable[[str], Endpoint]]) -> Iterator[dict[str, Side]]:
    """Every database: Milvus in a folder, the others behind what names their collections."""
    numbers = count()
    lite = Endpoint(type="milvus", path=folder / "milvus.db", collection="probe")
    named = {"milvus": lambda name: replace(lite, collection=f"{name}_{next(numbers)}"), **servers}
    with databases.keep_open(lite):
        yield {name: side_of(collections) for name, collections in named.items()}


def side_of(collections: Callable[[str], Endpoint]) -> Side:
    def new() -> Place:
        endpoint = collections("Cell")
        return lambda: databases.open_target(endpoint)

    with databases.open_target(collections("probe")) as database:
        return Side(new, database.probe())


@dataclass(frozen=True)
class Origin:
    """A source that holds a sample."""

    open: Place
    schema: CollectionSchema
    records: Sequence[Record]


def fill(side: Side, sample: Sample) -> Origin:
    """Make a source that holds a sample, exactly."""
    place = side.new()
    with place() as database:
        database.probe()
        database.create(sample.schema.model_copy(update={"name": database.endpoint.collection}))
        for batch in sample.batches:
            assert database.upsert(batch) == []
        database.wait_visible()
    with place() as database:  # a folder of Qdrant keeps vectors as they were given, its memory with unit norm
        return Origin(place, database.describe(), read(database))


def planned(origin: Origin, target: Place, *, partition_records: int = 100_000, **mapping: Any) -> Plan:
    """The plan of moving all of a source to a target that is not there."""
    with origin.open() as source, target() as there:
        migration = Migration(
            id="cell",
            source=EndpointConfig(type="qdrant", url="http://source", collection="any"),
            target=EndpointConfig(type="qdrant", url="http://target", collection="any"),
            mapping=MappingConfig(**mapping),
            transfer=TransferConfig(partition_records=partition_records),
        )
        return make_plan(Source(source), Source(there), migration, generation=1, profile="full")


def move(origin: Origin, target: Place, plan: Plan) -> Moved:
    """Do what a plan says, and look at both sides; the source is left as it was."""
    plan.loss.check()
    refused: list[Refusal] = []
    mapper = RecordMapper(plan.mapping)
    with origin.open() as source, target() as there:
        there.probe()
        there.create(plan.mapping.target_schema)
        for one in plan.splits:
            for done in transfer_split(source=Source(source), target=there, mapper=mapper, split=one.split):
                refused += done.refused
        there.finish_bulk_load()
        after, schema = read(there), there.describe()
    with origin.open() as source:
        assert source.describe() == origin.schema
        assert fingerprints(read(source)) == fingerprints(origin.records), "the source has changed"
    return Moved(origin.schema, schema, origin.records, after, plan.loss, refused)


def is_there(place: Place) -> bool:
    """Whether a collection exists."""
    with place() as database:
        try:
            database.describe()
        except NotFound:
            return False
        return True


def fingerprints(records: Sequence[Record]) -> list[str]:
    """Records as texts that differ if anything in them does."""
    return sorted(
        repr((one.scope, one.kind, one.id, as_json(one.payload), sorted((n, bits(v)) for n, v in one.vectors.items())))
        for one in records
    )
