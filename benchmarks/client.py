"""What moving a record costs this process, where no database costs anything.

    python -m benchmarks.client                         # 20,000 records of 768 dimensions, medians of 3 runs
    python -m benchmarks.client --databases qdrant,qdrant-mapped,qdrant:milvus-columns,milvus-columns:qdrant
    python -m benchmarks.client --databases qdrant,qdrant-loop

Records with five payload fields (a text, an integer, a float, a truth value, a list of texts) go from a collection into
itself, through `scan`, the mapping that a plan would make, `upsert` and the pipeline between them. "A-mapped" renames
a field on the way, "A:B" goes from one database into another, "A-loop" is the plain loop of the official client
(`plain_loops`; not every server here understands it). The server is a child process that answers with pages it
has encoded before and acknowledges at once (`benchmarks.at_once`), and only the CPU time of this process counts
(`getrusage`).

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

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from benchmarks import plain_loops
from benchmarks.at_once.records import COLLECTION
from benchmarks.stand_ins import collection
from benchmarks.transfer import address
from vectormigrate_dagster import databases
from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import OPTIONS
from vectormigrate_dagster.databases.qdrant.database import Qdrant
from vectormigrate_dagster.mapping.profiler import Profiler
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import (
    Batch,
    Split,
)
from vectormigrate_dagster.transfer.pipeline import transfer_split

PROFILED = 1000
"""Records that the mapping is made from."""

LOOP = "-loop"
MAPPED, RENAMING = "-mapped", MappingConfig(rename={"title": "label"})
"""End of a kind, and what it asks for: no payload passes as it is."""

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
    parser.add_argument(
        "--databases", default="qdrant,qdrant-mapped,milvus-columns,milvus-dynamic,weaviate,pinecone,pinecone-rest"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    measured = []
    for kind in asked.databases.split(","):
        with ExitStack() as servers:
            ends = [servers.enter_context(server(each, asked.records, asked.dim)) for each in kind.split(":")]
            sizes = {"records": asked.records, "dim": asked.dim, "repeat": asked.repeat}
            if kind.endswith(LOOP):
                measured.append(measure_loop(kind, ends[0], records=asked.records, repeat=asked.repeat))
            else:
                measured.append(measure(kind, ends[0], ends[-1], **sizes))
    show(measured, asked)
    if asked.json is not None:
        figures = {"records": asked.records, "dim": asked.dim, "us_per_record": [vars(one) for one in measured]}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(kind: str, origin: Endpoint, destination: Endpoint, *, records: int, dim: int, repeat: int) -> Measured:
    """Move the records `repeat` times after once for the server to encode its pages."""
    runs: list[tuple[float, float, Stages]] = []
    across = origin is not destination
    for endpoint in (origin, destination) if across else (origin,):
        _create(endpoint, dim)
    with databases.open_source(origin) as source, databases.open_target(destination) as target:
        source.probe()
        target.probe()
        described = source.describe()
        split = Split(kind=described.ids.kinds[0])
        profiler = Profiler()
        profiler.add(next(iter(source.scan(split, batch_records=PROFILED))))
        mapping, _ = map_schema(
            described,
            source.capabilities,
            target.capabilities,
            RENAMING if kind.endswith(MAPPED) else MappingConfig(),
            profiler.profile(),
            collection=COLLECTION,
            existing=target.describe() if across else None,
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


def measure_loop(kind: str, endpoint: Endpoint, *, records: int, repeat: int) -> Measured:
    """Move the records by the plain loop `repeat` times, after once for imports and for the server's pages."""
    loop = getattr(plain_loops, endpoint.type)
    ends = (address(endpoint), endpoint.collection)
    runs: list[tuple[float, float]] = []
    for _ in range(repeat + 1):
        before = resource.getrusage(resource.RUSAGE_SELF)
        moved, _ = loop(*ends, *ends)
        after = resource.getrusage(resource.RUSAGE_SELF)
        if moved != records:
            raise SystemExit(f"{kind}: {moved:,} of {records:,} records arrived")
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        runs.append(((user + system) * 1e6 / records, system * 1e6 / records))
    total, system = (statistics.median(run[i] for run in runs[1:]) for i in (0, 1))
    return Measured(kind, total, system, dict.fromkeys(STAGES, 0.0), [run[0] for run in runs[1:]])


def _create(endpoint: Endpoint, dim: int) -> None:
    """Create the collection, unless it is the server's own."""
    if endpoint.type != "milvus":
        with databases.open_target(endpoint) as target:
            target.probe()
            target.create(collection(COLLECTION, target.capabilities, dim))


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
    command = [
        sys.executable,
        "-m",
        "benchmarks.at_once",
        kind.removesuffix(MAPPED).removesuffix(LOOP),
        "--records",
        str(records),
        "--dim",
        str(dim),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None:
                raise SystemExit("the server has no output")
            addresses = json.loads(child.stdout.readline())
            type_, url = kind.split("-", maxsplit=1)[0], addresses.pop("url")
            key = SecretStr(addresses.pop("api_key")) if "api_key" in addresses else None
            options = OPTIONS[type_](**addresses)
            yield Endpoint(type=type_, url=url, api_key=key, collection=COLLECTION, options=options)
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
        for owner, name, stage in dict.fromkeys(each for end in kind.split(":") for each in functions(end)):
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
    if kind.startswith("qdrant"):
        from vectormigrate_dagster.databases.qdrant import grpc, point_writing  # noqa: PLC0415

        database = [
            (grpc, "scroll", "receive"),
            (grpc, "points_of", "decode"),
            (grpc, "batch_of", "decode"),
            (Batch, "decoded", "payload decode"),
            (point_writing, "rows_not_finite", "check"),
            (point_writing, "are_usual", "check"),
            (point_writing, "_payloads", "payload encode"),
            (Qdrant, "upsert", "encode"),
            (grpc, "upsert", "send"),
        ]
    elif kind.startswith("pinecone"):
        from vectormigrate_dagster.databases.pinecone import (  # noqa: PLC0415
            api,
            grpc_vectors,
            reading,
            vector_reading,
            vector_writing,
            vectors,
        )
        from vectormigrate_dagster.databases.pinecone import database as pinecone  # noqa: PLC0415

        database = [
            (reading.PineconeReader, "_page", "receive"),
            (reading.PineconeReader, "_fetch", "receive"),
            (grpc_vectors, "page_of", "decode"),
            (grpc_vectors, "rows_in", "decode"),
            (vector_reading, "struct_of", "payload decode"),
            (vectors, "payload_of", "payload decode"),
            (reading, "batch_of", "decode"),
            (pinecone, "require_writable", "check"),
            (vector_writing, "struct_octets", "payload encode"),
            (api, "json_bytes", "payload encode"),
            (pinecone, "outgoing", "encode"),
            (pinecone.Pinecone, "_send", "send"),
        ]
    elif kind == "weaviate":
        from vectormigrate_dagster.databases.weaviate import (  # noqa: PLC0415
            connection,
            object_reading,
            object_writing,
            writing,
        )

        database = [
            (connection.WeaviateConnection, "_search", "receive"),
            (connection, "found_in", "decode"),
            (object_reading, "_object_of", "payload decode"),
            (connection, "batch_of", "decode"),
            (writing, "misfits", "check"),
            (writing, "require_fit", "check"),
            (object_writing, "_properties", "payload encode"),
            (writing, "objects_of", "encode"),
            (writing, "request_of", "encode"),
            (writing.WeaviateWriting, "_put", "send"),
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
