"""Move many records between Milvus servers with two workers, kill a worker and the server on the way, compare all.

    python -m benchmarks.endurance --records 300000

One Milvus server, started for the purpose, holds both collections. A worker is killed when a third of the records has
arrived, the server when two thirds have; it is started again, and so is the migration until it says that it is
complete. Then every id and every record is compared, once by `vectormigrate validate --full` and once by this script,
which knows nothing of mapping or validation.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster_tests.harness import (
    COLLECTION,
    ID,
    NOTHING,
    Records,
    Workplace,
    differences,
    fill,
    moved,
    workers_of,
)
from vectormigrate_dagster_tests.servers.milvus import MilvusServer

_POLL_SECONDS = 0.5
_ATTEMPTS = 5


def main() -> None:
    """Fill, move, disturb, compare, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, MilvusServer.start(Path(folder) / "milvus") as server:
        endure(Path(folder), server, Records.of(asked.records, asked.dim), asked.workers)


def endure(folder: Path, server: MilvusServer, records: Records, workers: int) -> None:
    """Move `records` and print what happened; fails unless all of them arrived as they were."""
    told = Told(f"{len(records):,} records of {records.dim} dimensions, {workers} workers")
    source, target = (Endpoint(type="milvus", url=server.url, collection=name) for name in (COLLECTION, "arrived"))
    with told.line("source filled"):
        fill(source, records)
    transfer = {"workers": workers, "partition_records": max(1000, len(records) // 12), "max_retries": 3}
    place = Workplace.make(folder / "place", source, target, transfer=transfer)
    with told.line("migrated, with all that happened on the way"):
        move(place, server, records, told)
    with told.line("validate --full"):
        proof = place.run("validate", ID, "--full", timeout=3600)
    told.note("validate --full ended with", f"exit {proof.returncode}")
    with told.line("compared by this script"):
        found = differences(target, records)
    told.note("missing, extra, different", ", ".join(str(len(ids)) for ids in found.values()))
    if proof.returncode != 0 or found != NOTHING:
        raise SystemExit(proof.stdout + proof.stderr)


def move(place: Workplace, server: MilvusServer, records: Records, told: Told) -> None:
    """Run the migration to its end, killing on the way."""
    process = place.start("migrate", ID)
    wait_until(place, process, len(records) // 3)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    told.note("a worker was killed at", f"{moved(place):,} records")
    wait_until(place, process, 2 * len(records) // 3)
    server.kill()
    told.note("the server was killed at", f"{moved(place):,} records")
    told.note("migrate then ended with", end_of(process))
    with told.line("server started again"):
        server.restart()
    for _ in range(_ATTEMPTS):
        process = place.start("migrate", ID)
        told.note("run again, migrate ended with", end_of(process))
        if process.returncode == 0:
            return
    raise SystemExit(f"migrate did not complete in {_ATTEMPTS} more runs")


def end_of(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command, and tell it."""
    _, said = process.communicate()
    return f"exit {process.returncode}: {said.strip().rpartition(chr(10))[2]}"


class Told:
    """Prints what happened and how long it took, as it happens."""

    def __init__(self, title: str) -> None:
        self._console = Console(highlight=False)
        self._console.print(title, style="bold")

    def note(self, what: str, value: object) -> None:
        """Print a line."""
        self._console.print(f"{what:42} {value}", soft_wrap=True)

    @contextmanager
    def line(self, what: str) -> Iterator[None]:
        """Print how long a block took."""
        began = time.perf_counter()
        yield
        self.note(what, f"{time.perf_counter() - began:,.1f} s")


def wait_until(place: Workplace, process: subprocess.Popen[str], records: int) -> None:
    """Wait until so many records are moved."""
    while moved(place) < records:
        if process.poll() is not None:
            raise SystemExit(f"migrate ended before {records:,} records were moved: {end_of(process)}")
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
