"""How long `vectormigrate status` and `vectormigrate --help` take as whole processes.

`python benchmarks/status.py` makes a migration of 500 partitions with 10 state events each, then runs each command
seven times and prints the median, the fastest and the slowest run in seconds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Records, Workplace, fill

PARTITIONS = 500
EVENTS = 10
RUNS = 7


def main() -> None:
    """Make the migration, run the commands, print a table."""
    with tempfile.TemporaryDirectory() as folder:
        place = _migration(Path(folder))
        for words in (["--help"], ["status", ID, "--json"]):
            seconds = [_seconds(place.command(*words)) for _ in range(RUNS)]
            told = f"median {statistics.median(seconds):.3f}  fastest {min(seconds):.3f}  slowest {max(seconds):.3f}"
            sys.stdout.write(f"{' '.join(words):24} {told}\n")


def _migration(folder: Path) -> Workplace:
    source = Endpoint(type="milvus", path=folder / "source.db", collection=COLLECTION)
    fill(source, Records.of(PARTITIONS))
    place = Workplace.make(folder / "place", source, "milvus", transfer={"partition_records": 1})
    subprocess.run(place.command("plan", ID), check=True, capture_output=True)
    plan = place.plan()
    with open_home(place.home) as instance:
        log = MigrationLog(instance, ID)
        for number in range(EVENTS):
            for planned in plan.splits:
                phase = "done" if number == EVENTS - 1 else "loading"
                log.record(planned.key, PartitionState(plan=plan.digest, state=phase, run_id="run", acknowledged=1))
    sys.stdout.write(f"{len(plan.splits)} partitions, {len(plan.splits) * EVENTS} state events\n")
    return place


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
