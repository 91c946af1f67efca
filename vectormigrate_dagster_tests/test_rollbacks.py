"""Killed at random in load and again in rollback, a target is in the end byte-equal to what it was (H-25).

`VECTORMIGRATE_ROLLBACKS=100 pytest vectormigrate_dagster_tests/test_rollbacks.py` is the full length: a hundred cases;
without the variable there are ten. One in ten, and two at least, are real commands that are killed by SIGKILL, on an
embedded Qdrant and a Milvus Lite; the others use all four databases and die at a random call, before or after it took
effect. The targets hold records before, under ids that are moved, other ids or both, or are not there at all.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig, Migration, TransferConfig
from vectormigrate_dagster.databases import TYPES, Database, Endpoint, Source
from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.mapping.plan import Plan, make_plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    Metric,
    Payload,
    VectorSchema,
)
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.transfer import OwnershipLog, Settings, Throttle, transfer_split
from vectormigrate_dagster.transfer.rollback import Rollback
from vectormigrate_dagster_tests.collections_of_everything import Everything, read_everything
from vectormigrate_dagster_tests.conftest import Collections
from vectormigrate_dagster_tests.everything import everything
from vectormigrate_dagster_tests.harness import COLLECTION, DIM, ID, Records, Workplace, fill, schema, until
from vectormigrate_dagster_tests.matrix_runs import Origin, Place, Side, fingerprints, sides
from vectormigrate_dagster_tests.matrix_runs import fill as fill_with
from vectormigrate_dagster_tests.observations import read
from vectormigrate_dagster_tests.same_mapper import SameMapper

ROLLBACKS = int(os.environ.get("VECTORMIGRATE_ROLLBACKS", "10"))
KILLED = max(2, ROLLBACKS // 10)
DYING = max(len(TYPES), ROLLBACKS - KILLED)
MOVED = Records.of(300)
TRANSFER = {"checkpoint_seconds": 0, "partition_records": 150, "batch_size": 10}

VECTOR = VectorSchema(name="", dim=4, metric=Metric.DOT)
LOAD_SECONDS = 2.0
UNDO_SECONDS = 1.5
"""About how long an undisturbed load and rollback take; a kill is at any time of it."""


########################
# Commands that are killed
########################


@pytest.fixture(scope="module")
def moved_source(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    endpoint = Endpoint(type="qdrant", path=tmp_path_factory.mktemp("moved") / "source", collection=COLLECTION)
    fill(endpoint, MOVED)
    return endpoint


@pytest.mark.kill
@pytest.mark.timeout(300 + 120 * KILLED)
def test_h25_commands_killed_in_load_and_rollback(
    moved_source: Endpoint, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(KILLED)
    loads = undos = hit_loads = hit_undos = 0
    for number in range(KILLED):
        place = Workplace.make(tmp_path / f"case-{number}", moved_source, "milvus")
        place.write(transfer={**TRANSFER, "on_conflict": chance.choice(["skip", "overwrite"])})
        before = stood_there(place.target, chance)
        for _ in range(chance.choice([1, 1, 2])):
            loads += 1
            hit_loads += killed(place, "g*-*", LOAD_SECONDS * chance.random(), "migrate", ID)
        for _ in range(chance.choice([1, 1, 2])):
            undos += 1
            hit_undos += killed(place, "rollback", UNDO_SECONDS * chance.random(), "rollback", ID, "--force")
        done = place.call("rollback", ID, "--force")
        assert done.returncode == 0, f"case {number}: {done.stderr}"
        assert place.status()["status"] == "rolled_back"
        assert contents(place.target) == before, f"case {number}"
        shutil.rmtree(place.folder)
    record_property(
        "told",
        f"{KILLED} rollbacks: {hit_loads} of {loads} kills hit a running load, {hit_undos} of {undos} a running "
        "rollback; every target was byte-equal to what it was",
    )
    assert hit_loads + hit_undos >= KILLED


def stood_there(target: Endpoint, chance: random.Random) -> Everything | None:
    """Put something into the target, or make none; what it holds then."""
    kind = chance.choice(["no collection", "empty", "others", "the same ids", "both"])
    if kind == "no collection":
        return None
    ids = {"others": range(5001, 5200), "the same ids": range(1, 301, 3), "both": range(151, 451, 2), "empty": ()}[kind]
    vectors = np.random.default_rng(chance.randrange(2**32)).standard_normal((len(ids), DIM), dtype=np.float32)
    with databases.open_target(target) as database:
        made = schema("milvus")
        database.create(made)
        if ids:
            payloads = [{**Records.payload(number), "whose": "theirs"} for number in ids]
            database.upsert(Batch(IdColumn.of(made.ids.kinds[0], ids), None, {"embedding": Dense(vectors)}, payloads))
    return read_everything(target)


def contents(target: Endpoint) -> Everything | None:
    try:
        return read_everything(target)
    except NotFound:
        return None


def killed(place: Workplace, leases: str, seconds: float, *words: str) -> bool:
    """Run a command and kill it some time after it has taken one of some leases; whether it was still running."""
    file = place.lease(leases)

    def taken() -> list[Path]:
        return list(file.parent.glob(file.name))

    for lease in taken():
        lease.unlink()  # its holder is dead: its being made anew shows that work has begun
    process = place.start(*words)
    until(lambda: bool(taken()) or process.poll() is not None)
    # Where all was done before the last kill, nothing is left to do.
    assert taken() or process.returncode == 0, process.communicate(timeout=60)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
    running = process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    return running


##########################
# Databases that go away
##########################


class Killed(Exception):
    """The process is gone."""


class Dying:
    """A database that dies at its n-th call, before or after that took effect."""

    def __init__(self, database: Database, calls: int, *, after: bool) -> None:
        self._database = database
        self._calls = calls
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._database, name)
        return self._dying(found) if name in ("fetch", "upsert", "delete") else found

    def _dying(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._calls -= 1
            if self._calls < 0 and not self._after:
                raise Killed
            result = method(*arguments)
            if self._calls < 0:
                raise Killed
            return result

        return call


@dataclass(frozen=True)
class Case:
    """One migration that is disturbed."""

    origin: Origin
    target: Place
    plan: Plan
    folder: Path
    on_conflict: Any

    def load(self, calls: int, *, after: bool) -> None:
        with self.origin.open() as source, self.target() as there:
            there.probe()
            for one in self.plan.splits:
                list(
                    transfer_split(
                        source=Source(source),
                        target=Dying(there, calls, after=after),  # type: ignore[arg-type]  # all that is asked of it
                        mapper=RecordMapper(self.plan.mapping),
                        split=one.split,
                        settings=Settings(batch_records=3, page_records=6, writers=2),
                        on_conflict=self.on_conflict,
                        ownership=OwnershipLog(self.folder / one.key),
                        throttle=Throttle.of(batch_records=3),
                    )
                )

    def undo(self, calls: int, *, after: bool) -> int:
        """Take everything back; return how many records were left as they are."""
        left = 0
        logs = [OwnershipLog(self.folder / one.key) for one in self.plan.splits]
        with self.origin.open() as source, self.target() as there:
            there.probe()
            for log in logs:
                rollback = Rollback(
                    Dying(there, calls, after=after),  # type: ignore[arg-type]  # all that is asked of it
                    RecordMapper(self.plan.mapping),
                    lambda opened=source: Source(opened),
                )
                left += sum(len(checkpoint.left) for checkpoint in rollback.logs([log], logs))
        return left

    def records(self) -> list[str]:
        with self.target() as there:
            there.probe()
            there.wait_visible()
            return fingerprints(read(there))


@pytest.fixture(scope="module")
def all_sides(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Side]]:
    others = [one for one in TYPES if one != "milvus"]
    servers: dict[str, Collections] = {one: request.getfixturevalue(f"{one}_collections") for one in others}
    with sides(tmp_path_factory.mktemp("sides"), servers) as made:
        yield made


@pytest.mark.parametrize("name", TYPES)
def test_what_a_database_gives_is_what_restores_it(name: str, all_sides: Mapping[str, Side], tmp_path: Path) -> None:
    """Every record that a database can hold, overwritten and written back from its image in the log, is equal."""
    side = all_sides[name]
    sample = everything(side.can, side.can.id_kinds[0], divided=bool(side.can.scope_kinds))
    with fill_with(side, sample).open() as database:
        database.probe()
        overwritten_and_back(database, sample.batches, tmp_path)


def test_references_of_weaviate_are_written_back(weaviate_collections: Collections, tmp_path: Path) -> None:
    endpoint = weaviate_collections("Refer")
    ids = [uuid.UUID(int=number) for number in range(4)]
    beacons = [f"weaviate://localhost/{endpoint.collection}/{one}" for one in (*ids, uuid.UUID(int=99))]
    payloads: list[Payload] = [{"to": beacons}, {"to": beacons[1:2]}, {}, {"to": beacons[:3]}]
    to = FieldSchema(name="to", type=FieldType.REFERENCE, declared=True, targets=(endpoint.collection,))
    with databases.open_target(endpoint) as database:
        database.probe()
        database.create(
            CollectionSchema(
                name=endpoint.collection,
                ids=IdSchema(kinds=(IdKind.UUID,)),
                vectors=(VECTOR,),
                fields=(to,),
                dynamic=False,
            )
        )
        batch = Batch(IdColumn.of(IdKind.UUID, ids), None, {"": Dense(np.eye(4, dtype=np.float32))}, payloads)
        assert database.upsert(batch) == []
        overwritten_and_back(database, [batch], tmp_path)
        database.drop()


def overwritten_and_back(database: Database, batches: Sequence[Batch], folder: Path) -> None:
    """Give each record what another one has, as a load would; then roll that back."""
    log = OwnershipLog(folder)
    database.wait_visible()
    before = fingerprints(read(database))
    for batch in batches:
        image = replace(database.fetch(batch.ids, batch.scope).batch, scope=batch.scope)
        other = replace(image.take(np.arange(len(image))[::-1]), ids=image.ids)
        log.record_before(image, record_digests(other))
        assert database.upsert(other) == []
    database.wait_visible()
    assert fingerprints(read(database)) != before
    logs = [OwnershipLog(folder)]
    done = list(Rollback(database, SameMapper(), lambda: Source(database)).logs(logs, logs))
    assert [checkpoint.left for checkpoint in done if checkpoint.left] == []
    assert fingerprints(read(database)) == before


@pytest.mark.timeout(120 + 10 * DYING)
@pytest.mark.parametrize("number", range(DYING))
def test_h25_every_database_dying_at_any_call(number: int, all_sides: Mapping[str, Side], tmp_path: Path) -> None:
    """Everything that a database can hold stands there, in scopes, with missing vectors, nulls and references."""
    chance = random.Random(number)
    side = all_sides[TYPES[number % len(TYPES)]]
    kind = chance.choice(side.can.id_kinds)
    divided = bool(side.can.scope_kinds) and chance.random() < 0.5
    sample = everything(side.can, kind, divided=divided)
    origin = fill_with(side, replace(sample, batches=tuple(some(batch, chance, 0.7) for batch in sample.batches)))
    theirs = fill_with(side, replace(sample, batches=tuple(mixed(batch, chance) for batch in sample.batches)))
    case = Case(
        origin,
        theirs.open,
        planned(origin, theirs.open),
        tmp_path,
        chance.choice(["skip", "overwrite", "overwrite"]),
    )
    before = case.records()
    for _ in range(chance.randint(1, 3)):
        with contextlib.suppress(Killed):
            case.load(chance.randint(0, 12), after=chance.random() < 0.5)
    for _ in range(chance.randint(0, 2)):
        with contextlib.suppress(Killed):
            case.undo(chance.randint(0, 12), after=chance.random() < 0.5)
    assert case.undo(10**9, after=False) == 0
    assert case.records() == before


def some(batch: Batch, chance: random.Random, part: float) -> Batch:
    return batch.take([row for row in range(len(batch)) if row == 0 or chance.random() < part])


def mixed(batch: Batch, chance: random.Random) -> Batch:
    """Some of the same ids, each with the vectors and the payload of another record."""
    rows = list(range(len(batch)))
    chance.shuffle(rows)
    return some(replace(batch.take(rows), ids=batch.ids), chance, 0.5)


def planned(origin: Origin, target: Place) -> Plan:
    """The plan of moving all of a source into a target that is there."""
    with origin.open() as source, target() as there:
        migration = Migration(
            id="case",
            source=EndpointConfig(type="qdrant", url="http://source", collection="any"),
            target=EndpointConfig(type="qdrant", url="http://target", collection="any"),
            transfer=TransferConfig(partition_records=15, on_conflict="overwrite"),
        )
        return make_plan(Source(source), Source(there), migration, generation=1, profile="full")
