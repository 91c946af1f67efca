"""How much memory a worker needs for few records and for many: it should not depend on their number.

    python -m benchmarks.memory                         # 50,000 and 200,000 records of 384 dimensions, 3 runs each

Each run is a `vectormigrate migrate` with one worker, which works in its own process, from Milvus to Milvus: the server
at MILVUS_URL, else one that is started for the purpose. The figure is the greatest resident size that the kernel has
seen of the process (`ru_maxrss`), so it holds the interpreter, Dagster and the client as well. Exits with 1 if the
median for the most records is more than 15 % above that for the fewest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.child import run
from benchmarks.transfer import Sides, milvus, require_complete_and_drop
from vectormigrate_dagster import databases
from vectormigrate_dagster_tests.harness import ID, Records, Workplace, fill

ALLOWED = 1.15


def main() -> None:
    """Measure every size and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="50000,200000")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    sizes = sorted(int(size) for size in asked.records.split(","))
    peaks: dict[int, list[float]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder, milvus(Path(folder)) as sides:
        for size in sizes:
            measured = replace(sides, source=replace(sides.source, collection=f"things_{size}"))
            fill(measured.source, Records.of(size, asked.dim))
            for number in range(asked.repeat):
                peaks[size].append(peak(Path(folder) / f"{size}-{number}", measured))
                require_complete_and_drop(measured, size)
            with databases.open_target(measured.source) as source:
                source.drop()
    least = statistics.median(peaks[sizes[0]])
    table = Table("records", "median MiB", "runs", "to the fewest", title=f"{asked.dim} dimensions, one worker")
    for size, runs in peaks.items():
        median = statistics.median(runs)
        told = ", ".join(f"{run:.0f}" for run in sorted(runs))
        table.add_row(f"{size:,}", f"{median:.0f}", told, f"{median / least:.2f}")
    Console().print(table)
    sys.exit(statistics.median(peaks[sizes[-1]]) > ALLOWED * least)


def peak(folder: Path, sides: Sides) -> float:
    """MiB that the process of one whole migration had at most."""
    # One partition, whatever its size: what grew with the length of a split would show.
    transfer = {"workers": 1, "partition_records": 10_000_000}
    place = Workplace.make(folder, sides.source, sides.target, transfer=transfer)
    return run(place.command("migrate", ID)).memory / 2**20


if __name__ == "__main__":
    main()
