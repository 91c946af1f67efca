"""A migration of generated records in a folder of its own, run by real child processes of the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import yaml
from click.testing import CliRunner

from vectormigrate_dagster import databases
from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    VectorSchema,
)
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster_tests.prepared import Command

DIM = 16
ID = "moving"
COLLECTION = "things"


KEY_VARIABLES = {
    "milvus": "MILVUS_TOKEN",
    "pinecone": "PINECONE_API_KEY",
    "qdrant": "QDRANT_API_KEY",
    "weaviate": "WEAVIATE_API_KEY",
}
"""Variables that hold the keys of servers."""

Process = subprocess.Popen[str] | Command
"""A command that runs."""

STARTED: list[Process] = []
"""Child processes of the running test."""


def end_children() -> None:
    """Kill what a failed test has left behind: it would hold folders that later tests need."""
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=60)


@dataclass(frozen=True)
class Records:
    """What is in a source: ids 1 to n, un-normalised vectors float32 (n, d), and a payload that names the id."""

    vectors: np.ndarray

    @classmethod
    def of(cls, count: int, dim: int = DIM) -> Records:
        return cls(np.random.default_rng(count).standard_normal((count, dim), dtype=np.float32))

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.vectors)

    @staticmethod
    def payload(number: int) -> dict[str, Any]:
        return {"number": number, "name": f"thing {number}", "even": number % 2 == 0, "note": None, "a.b c": [1, 2.0]}


def side_of(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as a migration file has it; its key, if any, is in the environment."""
    address = {"path": str(endpoint.path)} if endpoint.embedded else {"url": endpoint.url}
    if endpoint.api_key is not None:
        address["api_key_env"] = KEY_VARIABLES[endpoint.type]
    options = endpoint.options.model_dump(mode="json", exclude_unset=True)
    return {
        "type": endpoint.type,
        **address,
        "collection": endpoint.collection,
        **({"options": options} if options else {}),
    }


def schema(type: str, dim: int = DIM, *, index: str = "FLAT") -> CollectionSchema:
    """A schema that every database holds exactly."""
    vector = VectorSchema(name="embedding", dim=dim, metric=Metric.EUCLIDEAN)
    if databases.capabilities_of(type, embedded=True).declared_fields:
        ids = IdSchema(kinds=(IdKind.I64,), field="id")
        # Any index but FLAT keeps a server busy for minutes after the last write.
        vector = vector.model_copy(update={"index": IndexSpec(type=index)})
        fields = (FieldSchema(name="number", type=FieldType.INT64, declared=True, nullable=False),)
        return CollectionSchema(name=COLLECTION, ids=ids, vectors=(vector,), fields=fields)
    return CollectionSchema(name=COLLECTION, ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)), vectors=(vector,))


def fill(endpoint: Endpoint, records: Records, *, index: str = "FLAT") -> None:
    """Make a source, in an order that is not that of its ids."""
    made = schema(endpoint.type, records.dim, index=index)
    order = np.random.default_rng(1).permutation(len(records))
    with databases.open_target(endpoint) as database:
        database.create(made)
        for start in range(0, len(order), 1000):
            rows = order[start : start + 1000]
            numbers = [int(row) + 1 for row in rows]
            database.upsert(
                Batch(
                    ids=IdColumn.of(made.ids.kinds[0], numbers),
                    vectors={"embedding": Dense(records.vectors[rows])},
                    payloads=[Records.payload(number) for number in numbers],
                )
            )


@dataclass(frozen=True)
class Workplace:
    """One migration with its home, in a folder of its own."""

    folder: Path
    source: Endpoint
    target: Endpoint

    @classmethod
    def make(
        cls, folder: Path, source: Endpoint, target: str | Endpoint, *, transfer: Mapping[str, Any] | None = None
    ) -> Workplace:
        """Write the migration file; a target given by its type is an embedded database in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(target, str):
            target = Endpoint(type=target, path=folder / "target.db", collection=COLLECTION)
        place = cls(folder, source, target)
        place.write(transfer=transfer)
        return place

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def migrations(self) -> Path:
        return self.folder / "migrations"

    def write(self, **sections: Any) -> None:
        """Write the migration file."""
        self.migrations.mkdir(exist_ok=True)
        file = {side: side_of(end) for side, end in (("source", self.source), ("target", self.target))}
        file |= {name: dict(section) for name, section in sections.items() if section}
        (self.migrations / f"{ID}.yaml").write_text(yaml.safe_dump(file))

    def command(self, *words: str) -> list[str]:
        """The command as a child process runs it."""
        options = ["--home", str(self.home), "--migrations", str(self.migrations)]
        return [str(Path(sys.prefix) / "bin" / "vectormigrate"), *options, *words]

    def start(self, *words: str) -> Command:
        """Start the command in a process of its own, which does not outlive the test."""
        process = Command(self.command(*words), environment())
        STARTED.append(process)
        return process

    def start_cold(self, *words: str) -> subprocess.Popen[str]:
        """Start the command as a shell does, with an interpreter of its own and an input that is open."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(self.command(*words), **pipes, text=True, env=environment())
        STARTED.append(process)
        return process

    def run(self, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own to its end."""
        return ended(self.start(*words), timeout)

    def run_cold(self, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command as a shell does, to its end."""
        return ended(self.start_cold(*words), timeout)

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command in this process to its end: where one of its own would cost seconds and prove no more."""
        options = ["--home", str(self.home), "--migrations", str(self.migrations)]
        done = CliRunner().invoke(cli, [*options, *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    def lease(self, what: str) -> Path:
        """The lock file of a lease; it exists from the moment that work on `what` begins."""
        return self.home / "vectormigrate" / ID / "leases" / f"{what}.lock"

    def status(self) -> dict[str, Any]:
        """The status document, as the command prints it."""
        return status(Context(self.migrations, self.home), ID).model_dump(mode="json")

    def planned(self) -> bool:
        """Whether there is a plan yet."""
        with open_home(self.home) as instance:
            return MigrationLog(instance, ID).summary() is not None

    def plan(self) -> Plan:
        """The stored plan."""
        with open_home(self.home) as instance:
            return MigrationLog(instance, ID).require_plan()

    def history(self) -> list[tuple[str, PartitionState]]:
        """Every state event of every partition, in the order of writing."""
        with open_home(self.home) as instance:
            keys = {planned.key for planned in MigrationLog(instance, ID).require_plan().splits}
            chosen = dg.AssetRecordsFilter(asset_key=names.state_asset(ID))
            records = instance.fetch_observations(chosen, limit=10_000, ascending=True).records
            events = [record.asset_observation for record in records]
            return [
                (event.partition, PartitionState.model_validate(event.metadata["state"].value))
                for event in events
                if event is not None and event.partition in keys
            ]


def ended(process: Process, timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a command."""
    out, errors = process.communicate(timeout=timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def environment() -> dict[str, str]:
    """The environment of a child process: ours, with warnings as errors left to the tests of the package itself."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}


def until(true: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it was not so within {seconds} s"
        time.sleep(0.1)


@contextmanager
def following(place: Workplace) -> Iterator[Callable[[], dict[str, PartitionState]]]:
    """What tells the state of each partition, again and again: it keeps the home open and asks for what is new."""
    with open_home(place.home) as instance:
        log = MigrationLog(instance, ID)

        def states() -> dict[str, PartitionState]:
            plan = log.summary()
            log.refresh()
            return {} if plan is None else log.partitions(plan)

        yield states


def until_at_work(place: Workplace, process: Process, *, partitions: int = 1) -> None:
    """Wait until some partitions have a checkpoint in the state."""
    with following(place) as states:

        def at_work() -> bool:
            assert process.poll() is None, process.communicate(timeout=60)[1]
            return sum(state.after is not None for state in states().values()) >= partitions

        until(at_work)


def workers_of(pid: int) -> list[int]:
    """The worker processes that a `migrate` has begun."""
    children = [(child.pid, child.as_dict(["cmdline"], ad_value=[])) for child in psutil.Process(pid).children()]
    return [child for child, found in children if "spawn_main" in " ".join(found["cmdline"])]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(path: Path, process: Process, *, seconds: float = 60.0) -> bool:
    """Wait until a file exists; False if the process ended first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists():
            return True
        if process.poll() is not None:
            return path.exists()
        time.sleep(0.005)
    raise AssertionError(f"'{path}' did not appear within {seconds} s")


def arrived(target: Endpoint) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
    """Every record of the target: number, vector, payload; read whole, with no help of mapping or validation."""
    with databases.open_source(target) as database:
        for split in database.plan_splits(10_000_000):
            for batch in database.scan(split, batch_records=10_000):
                column = batch.vectors["embedding"]
                assert isinstance(column, Dense)
                for id_, vector, payload in zip(batch.ids.to_pylist(), column.values, batch.payloads, strict=True):
                    yield int(str(id_)), vector, payload


def differences(target: Endpoint, records: Records) -> dict[str, list[int]]:
    """Ids that are missing, extra or different in the target, by bits and by types."""
    seen: set[int] = set()
    extra, different = [], []
    for number, vector, payload in arrived(target):
        if not 1 <= number <= len(records) or number in seen:
            extra.append(number)
            continue
        seen.add(number)
        same_vector = vector.tobytes() == records.vectors[number - 1].tobytes()
        if not same_vector or repr(sorted(payload.items())) != repr(sorted(Records.payload(number).items())):
            different.append(number)
    missing = sorted(set(range(1, len(records) + 1)) - seen)
    return {"missing": missing, "extra": extra, "different": different}


NOTHING: dict[str, list[int]] = {"missing": [], "extra": [], "different": []}
