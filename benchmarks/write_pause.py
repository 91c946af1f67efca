"""How long an application waits for a write while the sides are switched, under 200 writes a second.

    python -m benchmarks.write_pause                         # all, 10 switches each: there, back, there, ...
    python -m benchmarks.write_pause --sides qdrant,milvus --switches 6

Four threads write 120 small records, each at 50 writes a second; one that was held up goes on at once. All of it is
one process, with servers that are stand-ins on its threads, so the figures say nothing about servers; Milvus is the
server at MILVUS_URL, else one that is started for the purpose. No request has an unknown outcome: after one that has,
a switch waits until nobody can apply it any more (`journal.request_seconds`).

    pause     the longest that a write took that was under way between the beginning and the end of a switch
    rate      writes a second, of those that the threads were to make
    longest   the longest that a write took while nothing was switched, 2 seconds long before each switch
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.errors import DatabaseError, LeaseHeld
from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.live.journal import Bounds
from vectormigrate_dagster_tests.live.chaos import servers, workers, world
from vectormigrate_dagster_tests.live.chaos.application import Writer
from vectormigrate_dagster_tests.live.chaos.history import Notes
from vectormigrate_dagster_tests.live.chaos.world import World, patient
from vectormigrate_dagster_tests.servers.milvus import QUICK, Address, MilvusServer, given_address

CONSOLE = Console(highlight=False)
THREADS = 4
WRITES_PER_SECOND = 200.0
_QUIET_SECONDS = 2.0

SIDES = {
    "stand-ins": "stand-in for Weaviate to stand-in for Pinecone",
    "qdrant": "stand-in for Qdrant to stand-in for Qdrant",
    "embedded": "Qdrant in a folder to Milvus Lite",
    "milvus": "stand-in for Qdrant to Milvus 2.3.5",
}


@dataclass(frozen=True)
class Took:
    """One acknowledged write: when it was to begin and when it was acknowledged, by the monotonic clock."""

    began: float
    ended: float


class Load:
    """Threads that write at a steady rate, and note how long each write took."""

    def __init__(self, place: World) -> None:
        self._place = place
        self._ended = threading.Event()
        self._dual = DualWriter(place.journal_url, place.name)
        self._notes = Notes(place.folder / "pause.notes")
        self.took: list[Took] = []
        self.failed = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write until the end of the block."""
        with ThreadPoolExecutor(THREADS) as pool:
            running = [pool.submit(self._write, number) for number in range(THREADS)]
            try:
                yield
            finally:
                self._ended.set()
        for one in running:
            one.result()
        self._dual.close()

    def _write(self, number: int) -> None:
        place = self._place
        with (
            databases.open_target(place.source) as source,
            databases.open_target(place.target) as target,
            Writer(place, f"pause.{number}", self._dual, self._notes, source, target) as writer,
        ):
            self._write_with(writer)

    def _write_with(self, writer: Writer) -> None:
        every, due = THREADS / WRITES_PER_SECOND, time.monotonic()
        while not self._ended.is_set():
            due = max(due + every, time.monotonic() - every)
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try:
                writer.write()
            except DatabaseError:
                self.failed += 1
            else:
                self.took.append(Took(began, time.monotonic()))

    def longest(self, since: float, until: float) -> float:
        """Of the writes that were under way between two moments."""
        return max((one.ended - one.began for one in self.took if one.ended > since and one.began < until), default=0.0)


@contextmanager
def ends(name: str, folder: Path) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Both collections."""
    if name == "embedded":
        source = Endpoint(type="qdrant", path=folder / "qdrant", collection="things")
        target = Endpoint(type="milvus", path=folder / "milvus.db", collection="things")
        with databases.keep_open(source), databases.keep_open(target):
            yield source, target
        return
    types = {"stand-ins": ("weaviate", "pinecone"), "qdrant": ("qdrant", "qdrant"), "milvus": ("qdrant", "milvus")}[
        name
    ]
    with ExitStack() as stack:
        address: Address | None = given_address()
        if "milvus" in types and address is None:
            address = stack.enter_context(_milvus(folder)).address
        started = []
        for kind in types:
            started.append(servers.start(kind, address))
            stack.callback(started[-1].stop)
        first, second = (patient(side.endpoint(word)) for side, word in zip(started, ("things", "copies"), strict=True))
        yield first, second


@contextmanager
def _milvus(folder: Path) -> Iterator[MilvusServer]:
    server = MilvusServer.start(folder / "server", QUICK)
    try:
        yield server
    finally:
        server.stop()


def measure(name: str, folder: Path, switches: int) -> tuple[list[float], float, float, int]:
    """Pauses of the switches, writes a second, the longest write at other times, and failed writes."""
    with ends(name, folder) as (source, target):
        stale = servers.STALE_SECONDS if target.type == "pinecone" else 0.0
        bounds = Bounds(start=5, request=30, margin=3, stale={"source": 0.0, "target": stale})
        place = world.make("pause", 1, folder, source, target, bounds)
        workers.load(place, "load", 0, 1)
        load, pauses, quiet = Load(place), list[float](), list[float]()
        over = threading.Event()
        with ThreadPoolExecutor(1) as pool, load.running():
            following = pool.submit(_follow, place, over.is_set)
            try:
                began = time.monotonic()
                for number in range(switches):
                    before = time.monotonic()
                    time.sleep(_QUIET_SECONDS)
                    quiet.append(load.longest(before, time.monotonic()))
                    pauses.append(_switch(place, load, there=number % 2 == 0))
                seconds = time.monotonic() - began
            finally:
                over.set()
            following.result()
        return pauses, len(load.took) / seconds, max(quiet), load.failed


def _follow(place: World, ended: Callable[[], bool]) -> None:
    """Catch up until the end."""
    with workers.both_sides(place) as sides:
        catching = workers.catching_up(place, "follow", place.journal(), sides)
        while not ended():
            try:
                useful = catching.step().consumed > 0
            except LeaseHeld:
                continue
            if not useful:
                time.sleep(0.02)


def _switch(place: World, load: Load, *, there: bool) -> float:
    journal = place.journal()
    with workers.both_sides(place) as sides:
        coordinator = workers.coordinating(place, "cutover", journal, sides)
        make = coordinator.run if there else coordinator.reverse
        began = time.monotonic()
        ended = make(by="benchmark", reason="measuring")
        if not ended.done:
            raise SystemExit(f"it was not switched: {'; '.join(ended.blocked_by)}")
        over = time.monotonic()
        time.sleep(1.0)  # whoever waited has written by then
        return load.longest(began, over)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default=",".join(SIDES), help=f"some of {', '.join(SIDES)}")
    parser.add_argument("--switches", type=int, default=10)
    asked = parser.parse_args()
    table = Table("sides", "switches", "median pause", "worst pause", "writes/s", "longest otherwise", "failed writes")
    for name in asked.sides.split(","):
        with tempfile.TemporaryDirectory() as folder:
            pauses, rate, quiet, failed = measure(name, Path(folder), asked.switches)
        median, worst = statistics.median(pauses), max(pauses)
        cells = [f"{median:.2f} s", f"{worst:.2f} s", f"{rate:.0f}", f"{quiet:.2f} s", str(failed)]
        table.add_row(SIDES[name], str(len(pauses)), *cells)
    CONSOLE.print(table)


if __name__ == "__main__":
    sys.exit(main())
