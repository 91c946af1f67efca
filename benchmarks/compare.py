"""One table of everything a user could pick, on the same records and servers in one run.

    python -m benchmarks.compare                                   # 50,000 records of 768 dimensions, medians of 3
    python -m benchmarks.compare --records 300000 --workers 2

Ways: `vectormigrate migrate`; the plain loop of the official client (`plain_loops`); `qdrant_client`'s own `migrate`;
and the raw floor (`raw_floor`): frames that are read and thrown away, and frames written that were encoded before, no
Python in between. Below the table stands why vector-io (the package vdf-io) is not run. Each way is a child process and
moves everything into a new collection, which is counted and dropped after; they take turns. "whole" is the process from
start to end, "load" from first read to last write as `benchmarks.transfer` tells it. CPU is user and system time of the
process and its children, start included, so few records make it look large; servers are other processes, and so is this
one, which the stand-in for Qdrant lives in. Memory is the greatest resident size of one process of a way.

"of the floor" is the floor's reading plus writing, one after the other, divided by the load: 0.87 is 1.15 times it.
Servers are those of `benchmarks.transfer`, also `--databases weaviate,pinecone`; QDRANT_TARGET_URL (and
QDRANT_TARGET_GRPC_URL) is where qdrant_client.migrate writes to, as it cannot rename a collection.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.child import run
from benchmarks.stand_ins import Sides
from benchmarks.transfer import SERVERS, Transfer, address, filled, make_empty, require_complete_and_drop
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster_tests.emulators.qdrant import QdrantStandIn
from vectormigrate_dagster_tests.harness import ID, Records, Workplace

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
COLUMNS = ("servers", "way", "whole s", "load s", "records/s", "CPU s a million", "MiB", "of the floor")
FLOOR = "raw floor (read + write)"
OURS = "vectormigrate"
VECTOR_IO = "vdf-io 0.1.248 of 2024 does not install beside these clients: pip finds no versions that agree"
"""Why vector-io is not measured."""


@dataclass(frozen=True)
class Cost:
    """One run of one way, in seconds and bytes; a floor has no CPU time of its own, as it makes frames first."""

    whole: float
    load: float
    cpu: float | None = None
    memory: int | None = None


@dataclass
class Way:
    """A way to move everything.

    Args:
        run: moves it once, between those two ends.
        sides: the ends.
        costs: of the runs so far.
        missing: why it cannot be run.
    """

    run: Callable[[Sides, int], Cost]
    sides: Sides
    costs: list[Cost] = field(default_factory=list)
    missing: str = ""


def main() -> None:
    """Measure each pair of servers and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way; medians are printed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--databases", default="milvus,qdrant")
    parser.add_argument("--index", default="FLAT", help="of Milvus' collections")
    asked = parser.parse_args()
    records = Records.of(asked.records, asked.dim)
    table = Table(*COLUMNS, title=f"{len(records):,} records of {records.dim} dimensions, medians of {asked.repeat}")
    for name in asked.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, SERVERS[name](Path(folder)) as sides:
            filled(sides.source, records, asked.index)
            try:
                with ways_of(name, sides, Path(folder), {"workers": asked.workers}) as ways:
                    measure(ways, len(records), asked.repeat)
                    add_rows(table, ways, len(records))
            finally:
                for side in (sides.source, sides.target):
                    with databases.open_target(side) as left:
                        left.drop()
    table.caption = f"vector-io is not run: {VECTOR_IO}"
    CONSOLE.print(table)


@contextmanager
def ways_of(name: str, sides: Sides, folder: Path, transfer: Transfer) -> Iterator[dict[str, Way]]:
    """All ways between two servers of one kind."""
    ways = {
        OURS: Way(lambda ends, number: run_command(folder / f"run-{number}", ends, transfer), sides),
        "plain loop": Way(lambda ends, _: run_loop(name, ends), sides),
        FLOOR: Way(lambda ends, _: run_floor(ends), sides),
    }
    if name != "qdrant":
        yield ways
        return
    with other_qdrant(sides.source) as other:
        missing = "" if other is not None else "QDRANT_TARGET_URL is not set"
        ends = replace(sides, target=other or sides.target)
        ways["qdrant_client.migrate"] = Way(
            lambda between, _: run_loop("qdrant_client.migrate", between, make=False), ends, missing=missing
        )
        yield ways


@contextmanager
def other_qdrant(source: Endpoint) -> Iterator[Endpoint | None]:
    """A collection of the same name on another server; None if there is no other."""
    if "QDRANT_URL" in os.environ:
        url, grpc_url = (os.environ.get(f"QDRANT_TARGET_{part}") for part in ("URL", "GRPC_URL"))
        yield None if url is None else replace(source, url=url, options=QdrantOptions(grpc_url=grpc_url))
        return
    with QdrantStandIn() as server:
        yield replace(source, url=server.url, options=QdrantOptions(grpc_url=server.grpc_url))


def measure(ways: dict[str, Way], records: int, repeat: int) -> None:
    """Run each way in turn."""
    for number in range(repeat):
        for name, way in ways.items():
            if way.missing:
                continue
            cost = way.run(way.sides, number)
            way.costs.append(cost)
            CONSOLE.print(f"{name:24} run {number + 1}: whole {cost.whole:6.1f} s, load {cost.load:6.1f} s")
            require_complete_and_drop(way.sides, records)


def run_command(folder: Path, sides: Sides, transfer: Transfer) -> Cost:
    """Our command, in a place of its own."""
    place = Workplace.make(folder, sides.source, sides.target, transfer=transfer)
    cost, _ = timed(place.command("migrate", ID))
    status = place.status()
    started, ended = (datetime.fromisoformat(status[name]) for name in ("started_at", "ended_at"))
    return replace(cost, load=(ended - started).total_seconds())


def run_loop(name: str, sides: Sides, *, make: bool = True) -> Cost:
    """A loop of `plain_loops`; making the target, unless it does that itself, counts as its own."""
    began = time.perf_counter()
    if make:
        make_empty(sides)
    made = time.perf_counter() - began
    cost, told = timed([sys.executable, "-m", "benchmarks.plain_loops", name, *ends_of(sides)])
    return replace(cost, whole=made + cost.whole, load=float(told.split()[1]))


def run_floor(sides: Sides) -> Cost:
    """What servers take by themselves."""
    make_empty(sides)
    with databases.open_source(sides.source) as source:
        records = source.count()
    command = [sys.executable, "-m", "benchmarks.raw_floor", sides.source.type, *ends_of(sides), str(records)]
    _, told = timed(command)
    reading, writing = map(float, told.split())
    CONSOLE.print(f"{FLOOR:24} read {reading:.1f} s, write {writing:.1f} s")
    return Cost(whole=reading + writing, load=reading + writing)


def timed(command: list[str]) -> tuple[Cost, str]:
    """Run a child process to its end: what it cost, with its own children, and what it printed."""
    used = run(command)
    return Cost(used.seconds, used.seconds, used.cpu, used.memory), used.output


def ends_of(sides: Sides) -> list[str]:
    """Addresses and collections, as `plain_loops` and `raw_floor` take them."""
    return [word for side in (sides.source, sides.target) for word in (address(side), side.collection)]


def add_rows(table: Table, ways: dict[str, Way], records: int) -> None:
    """One row per way, or why there is none."""
    floor = statistics.median(cost.load for cost in ways[FLOOR].costs)
    table.add_section()
    for name, way in ways.items():
        if way.missing:
            table.add_row(way.sides.servers, name, way.missing)
            continue
        whole, load = (statistics.median(getattr(cost, part) for cost in way.costs) for part in ("whole", "load"))
        cpu = [cost.cpu / records * 1e6 for cost in way.costs if cost.cpu is not None]
        memory = [cost.memory / 2**20 for cost in way.costs if cost.memory is not None]
        cells = [f"{statistics.median(each):,.0f}" if each else "" for each in (cpu, memory)]
        rates = (f"{whole:.1f}", f"{load:.1f}", f"{records / load:,.0f}")
        table.add_row(way.sides.servers, name, *rates, *cells, f"{floor / load:.2f}")


if __name__ == "__main__":
    main()
