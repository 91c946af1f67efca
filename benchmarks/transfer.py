"""How fast `vectormigrate migrate` is, against the plain loop that one would write with the official clients.

    python -m benchmarks.transfer                       # 50,000 records of 384 dimensions, medians of 3 runs each
    python -m benchmarks.transfer --records 300000 --workers 2

Both move the same collection between the same servers, in turn, each into a new collection that is counted and dropped
after. Both are child processes. "whole" is from the start of the process to its end: for `migrate` that is planning,
profiling a sample, making the target, loading, reading samples back, and counting both sides; for the loop making the
target and the import of its client. Milvus' index is AUTOINDEX on both sides, which the server builds while records
arrive; with `--index FLAT` all of its time goes into moving records.
"load" is from the first read to the last write for the loop; for `migrate` it is from the moment that the first
partition is begun to the moment that the last one is done, with making the target and reading samples back in it.

Milvus: the servers at MILVUS_URL and MILVUS_TARGET_URL (the same if only one is given), else one Milvus 2.3.5 that is
started for the purpose. Qdrant: the server at QDRANT_URL (and QDRANT_GRPC_URL), else a stand-in in Python, and then
the figures tell how fast clients are, and nothing about servers. Weaviate and Pinecone are stand-ins always, with
records of their own (`stand_ins`): `--databases weaviate,pinecone`. `benchmarks/plain_loops.py` is the loop.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from benchmarks import stand_ins
from benchmarks.stand_ins import Sides
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import ID, Records, Workplace, fill
from vectormigrate_dagster_tests.servers.milvus import MilvusServer

Transfer = Mapping[str, Any]
"""`transfer:` of the migration file."""

CONSOLE = Console(highlight=False)
SOURCE = f"benchmark_source_{os.getpid()}"
TARGET = f"benchmark_target_{os.getpid()}"
"""Names that nobody uses on a server that was given."""


@dataclass(frozen=True)
class Measured:
    """Seconds of every run of one way to move the records."""

    whole: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def main() -> None:
    """Measure each pair of servers and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; medians are printed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--partition-records", type=int, help="records of a partition; auto if not given")
    parser.add_argument("--databases", default="milvus,qdrant")
    parser.add_argument("--index", default="AUTOINDEX", help="of Milvus' collections")
    asked = parser.parse_args()
    records = Records.of(asked.records, asked.dim)
    transfer = {"workers": asked.workers, "partition_records": asked.partition_records or "auto"}
    table = Table("servers", "way", "whole rec/s", "load rec/s", "whole s", "load s", "times the loop")
    table.title = f"{len(records):,} records of {records.dim} dimensions, {asked.workers} worker(s), medians"
    for name in asked.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, SERVERS[name](Path(folder)) as sides:
            add_rows(table, sides, len(records), measure(Path(folder), sides, records, transfer, asked))
    CONSOLE.print(table)


def measure(
    folder: Path, sides: Sides, records: Records, transfer: Transfer, asked: argparse.Namespace
) -> dict[str, Measured]:
    """Move the records by each way in turn, and leave nothing behind."""
    filled(sides.source, records, asked.index)
    try:
        return alternate(folder, sides, len(records), transfer, asked.repeat)
    finally:
        for side in (sides.source, sides.target):
            with databases.open_target(side) as left:
                left.drop()


def filled(source: Endpoint, records: Records, index: str) -> None:
    """Make a source; `index` is that of Milvus' collections."""
    if source.type in ("weaviate", "pinecone"):  # which hold no null and no list of mixed numbers
        stand_ins.fill(source, records)
    else:
        fill(source, records, index=index)


def alternate(folder: Path, sides: Sides, records: int, transfer: Transfer, repeat: int) -> dict[str, Measured]:
    """Run each way in turn."""
    ways = {"plain loop": Measured(), "vectormigrate": Measured()}
    for number in range(repeat):
        for way, measured in ways.items():
            if way == "plain loop":
                whole, load = run_loop(sides)
            else:
                whole, load = run_command(folder / f"run-{number}", sides, transfer)
            measured.whole.append(whole)
            measured.load.append(load)
            CONSOLE.print(f"{sides.target.type}: {way:14} run {number + 1}: whole {whole:6.1f} s, load {load:6.1f} s")
            require_complete_and_drop(sides, records)
    return ways


def run_loop(sides: Sides) -> tuple[float, float]:
    """Seconds of making the target and the whole script, and of the loop in it."""
    words = [argument for side in (sides.source, sides.target) for argument in (address(side), side.collection)]
    began = time.perf_counter()
    make_empty(sides)
    command = [sys.executable, "-m", "benchmarks.plain_loops", sides.source.type, *words]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - began, float(told.split()[1])


def run_command(folder: Path, sides: Sides, transfer: Transfer) -> tuple[float, float]:
    """Seconds of the whole command, and between the first and last state of its partitions."""
    place = Workplace.make(folder, sides.source, sides.target, transfer=transfer)
    began = time.perf_counter()
    done = place.run("migrate", ID, timeout=3600)
    whole = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"migrate ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    status = place.status()
    started, ended = (datetime.fromisoformat(status[name]) for name in ("started_at", "ended_at"))
    return whole, (ended - started).total_seconds()


def make_empty(sides: Sides) -> None:
    """Make the loop's target, with the schema and index that a migration would give it."""
    with databases.open_source(sides.source) as source, databases.open_target(sides.target) as target:
        source.probe()
        target.probe()
        target.create(source.describe())


def require_complete_and_drop(sides: Sides, records: int) -> None:
    """Fail unless every record arrived; then drop the target."""
    with databases.open_target(sides.target) as target:
        target.probe()
        found = target.count()
        if found != records:
            raise SystemExit(f"{sides.target} holds {found:,} records, not {records:,}")
        target.drop()


def add_rows(table: Table, sides: Sides, records: int, ways: dict[str, Measured]) -> None:
    """One row per way, with how it compares to the first, by the time of the whole process and of the load."""
    loop = ways["plain loop"]
    for way, measured in ways.items():
        whole, load = statistics.median(measured.whole), statistics.median(measured.load)
        times = (statistics.median(loop.whole) / whole, statistics.median(loop.load) / load)
        rates = (f"{records / whole:,.0f}", f"{records / load:,.0f}", f"{whole:.1f}", f"{load:.1f}")
        table.add_row(sides.servers, way, *rates, f"{times[0]:.2f} whole, {times[1]:.2f} load")


@contextmanager
def milvus(folder: Path) -> Iterator[Sides]:
    """Two collections of given servers, or of one that is started."""
    token = os.environ.get("MILVUS_TOKEN")
    key = None if token is None else SecretStr(token)
    if url := os.environ.get("MILVUS_URL"):
        ends = [Endpoint(type="milvus", url=url, collection=SOURCE, api_key=key)]
        ends.append(replace(ends[0], url=os.environ.get("MILVUS_TARGET_URL", url), collection=TARGET))
        yield Sides("given Milvus servers", ends[0], ends[1])
        return
    with MilvusServer.start(folder / "milvus") as server:
        end = Endpoint(type="milvus", url=server.direct_url, collection=SOURCE)
        yield Sides("one Milvus 2.3.5", end, replace(end, collection=TARGET))


@contextmanager
def qdrant(_: Path) -> Iterator[Sides]:
    """Two collections of a given server, or of a stand-in in this process."""
    if url := os.environ.get("QDRANT_URL"):
        key = os.environ.get("QDRANT_API_KEY")
        options = QdrantOptions(grpc_url=os.environ.get("QDRANT_GRPC_URL"))
        secret = None if key is None else SecretStr(key)
        end = Endpoint(type="qdrant", url=url, collection=SOURCE, options=options, api_key=secret)
        yield Sides("given Qdrant server", end, replace(end, collection=TARGET))
        return
    with QdrantStandIn() as server:
        options = QdrantOptions(grpc_url=server.grpc_url)
        end = Endpoint(type="qdrant", url=server.url, collection=SOURCE, options=options)
        yield Sides("stand-in for Qdrant", end, replace(end, collection=TARGET))


def address(side: Endpoint) -> str:
    """An address as `plain_loops` takes it."""
    grpc = getattr(side.options, "grpc_url", None)
    return str(side.url) if grpc is None else f"{side.url},{urlsplit(grpc).port}"


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Sides]]] = {
    "milvus": milvus,
    "qdrant": qdrant,
    "weaviate": stand_ins.weaviate,
    "pinecone": stand_ins.pinecone,
}


if __name__ == "__main__":
    main()
