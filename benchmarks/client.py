"""What moving a record costs this process, where no database costs anything.

    python -m benchmarks.client                         # 20,000 records of 768 dimensions, medians of 3 runs
    python -m benchmarks.client --json client.json

Records with five payload fields (a text, an integer, a float, a truth value, a list of texts) go from a collection into
itself, through `scan`, the mapping that a plan would make, `upsert` and the pipeline between them. The server is a
child process that answers with pages it has encoded before and acknowledges at once (`benchmarks.at_once`), and only
the CPU time of this process counts (`getrusage`).

The shares are CPU time of the threads that do the work, taken in the same run; what a stage calls and has a row of its
own is not counted twice. "rest" is what is left of the process' time: the pipeline and gRPC's own threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.at_once import COLLECTION
from vectormigrate_dagster import databases
from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant.database import Qdrant
from vectormigrate_dagster.mapping.profiler import Profiler
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import CollectionSchema, IdSchema, Metric, Split, VectorSchema
from vectormigrate_dagster.transfer.pipeline import transfer_split

PROFILED = 1000
"""Records that the mapping is made from."""

STAGES = ("receive", "decode", "payload decode", "map", "check", "payload encode", "encode", "send")

Stages = dict[str, float]
"""Stage -> microseconds of CPU per record."""


@dataclass(frozen=True)
class Measured:
    """One way, medians of several runs, in microseconds of CPU per record.

    Args:
        total: of the process, of which `system` was in the kernel.
        stages: of the threads that do the work.
    """

    name: str
    total: float
    system: float
    stages: Stages
    runs: list[float]


def main() -> None:
    """Measure each database and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--databases", default="qdrant,milvus-columns,milvus-dynamic")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    measured = []
    for kind in asked.databases.split(","):
        with server(kind, asked.records, asked.dim) as endpoint:
            measured.append(measure(kind, endpoint, asked.records, asked.dim, asked.repeat))
    show(measured, asked)
    if asked.json is not None:
        figures = {"records": asked.records, "dim": asked.dim, "us_per_record": [vars(one) for one in measured]}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(kind: str, endpoint: Endpoint, records: int, dim: int, repeat: int) -> Measured:
    """Move the records `repeat` times after once for the server to encode its pages."""
    runs: list[tuple[float, float, Stages]] = []
    with databases.open_source(endpoint) as source, databases.open_target(endpoint) as target:
        source.probe()
        target.probe()
        if endpoint.type == "qdrant":
            vector = VectorSchema(name="embedding", dim=dim, metric=Metric.EUCLIDEAN)
            target.create(
                CollectionSchema(name=COLLECTION, ids=IdSchema(kinds=target.capabilities.id_kinds), vectors=(vector,))
            )
        described = source.describe()
        split = Split(kind=described.ids.kinds[0])
        profiler = Profiler()
        profiler.add(next(iter(source.scan(split, batch_records=PROFILED))))
        mapping, _ = map_schema(
            described,
            source.capabilities,
            target.capabilities,
            MappingConfig(),
            profiler.profile(),
            collection=COLLECTION,
        )
        mapper = RecordMapper(mapping)
        for number in range(repeat + 1):
            with stages(kind) as spent:
                before = resource.getrusage(resource.RUSAGE_SELF)
                moved = 0
                for checkpoint in transfer_split(source=source, target=target, mapper=mapper, split=split):
                    moved = checkpoint.acknowledged
                after = resource.getrusage(resource.RUSAGE_SELF)
            if moved != records:
                raise SystemExit(f"{kind}: {moved:,} of {records:,} records arrived")
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            if number:
                per_record = {stage: seconds * 1e6 / records for stage, seconds in spent.items()}
                runs.append(((user + system) * 1e6 / records, system * 1e6 / records, per_record))
    total, system = (statistics.median(run[i] for run in runs) for i in (0, 1))
    medians = {stage: statistics.median(run[2].get(stage, 0.0) for run in runs) for stage in STAGES}
    return Measured(kind, total, system, medians, [run[0] for run in runs])


def show(measured: list[Measured], asked: argparse.Namespace) -> None:
    """Print one table: a row per stage, a column per database."""
    table = Table("microseconds of CPU per record", *(one.name for one in measured))
    table.title = f"{asked.records:,} records of {asked.dim} dimensions, medians of {asked.repeat}"
    for stage in STAGES:
        table.add_row(stage, *(f"{one.stages[stage]:.1f}" for one in measured))
    table.add_row("rest", *(f"{one.total - sum(one.stages.values()):.1f}" for one in measured), end_section=True)
    table.add_row("all", *(f"{one.total:.1f}" for one in measured))
    table.add_row("of it in the kernel", *(f"{one.system:.1f}" for one in measured))
    Console(highlight=False).print(table)


@contextmanager
def server(kind: str, records: int, dim: int) -> Iterator[Endpoint]:
    """A child process that serves the records."""
    command = [sys.executable, "-m", "benchmarks.at_once", kind, "--records", str(records), "--dim", str(dim)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None:
                raise SystemExit("the server has no output")
            addresses = json.loads(child.stdout.readline())
            grpc_url = addresses.get("grpc_url")
            options = {} if grpc_url is None else {"options": QdrantOptions(grpc_url=grpc_url)}
            yield Endpoint(type=kind.split("-", maxsplit=1)[0], url=addresses["url"], collection=COLLECTION, **options)
        finally:
            child.terminate()


########################################################################
# Shares
########################################################################


@contextmanager
def stages(kind: str) -> Iterator[Stages]:
    """Time the functions that make up each stage, as long as the block runs."""
    spent: Stages = defaultdict(float)
    running = threading.local()
    with ExitStack() as stack:
        for owner, name, stage in functions(kind):
            timed = _timed(getattr(owner, name), stage, spent, running)
            stack.enter_context(mock.patch.object(owner, name, timed))
        yield spent


def _timed(function: Callable[..., Any], stage: str, spent: Stages, running: Any) -> Callable[..., Any]:
    """The function, with its CPU time noted, less that of timed functions that it calls."""

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        outer, running.inner = getattr(running, "inner", 0.0), 0.0
        began = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time() - began
            spent[stage] += took - running.inner
            running.inner = outer + took

    return timed


def functions(kind: str) -> list[tuple[Any, str, str]]:
    """Who does what: owner, name of a function, stage."""
    if kind == "qdrant":
        from vectormigrate_dagster.databases.qdrant import grpc, point_reading, point_writing  # noqa: PLC0415

        database = [
            (grpc, "scroll", "receive"),
            (grpc, "points_of", "decode"),
            (point_reading, "_payloads", "payload decode"),
            (grpc, "batch_of", "decode"),
            (point_writing, "rows_not_finite", "check"),
            (point_writing, "_payloads", "payload encode"),
            (Qdrant, "upsert", "encode"),
            (grpc, "upsert", "send"),
        ]
    else:
        from vectormigrate_dagster.databases.milvus import connection, messages, records, wire  # noqa: PLC0415
        from vectormigrate_dagster.databases.milvus import database as milvus  # noqa: PLC0415

        database = [
            (wire.Wire, "query", "receive"),
            (wire, "reply_of", "decode"),
            (connection, "batch_of_reply", "decode"),
            (messages, "_payloads", "payload decode"),
            (milvus.Milvus, "upsert", "encode"),
            (milvus, "storable", "check"),
            (records, "dynamic_texts", "payload encode"),
            (milvus, "upsert_of", "payload encode"),
            (wire.Wire, "upsert", "send"),
        ]
    return [(RecordMapper, "map", "map"), *database]


if __name__ == "__main__":
    main()
