"""What Dagster and the checks of a partition cost, beside the moving of its records.

    python -m benchmarks.overhead                       # 400 partitions in the plan, of which 5 are measured
    python -m benchmarks.overhead --partitions 10000

Records of 384 dimensions go from Milvus to Milvus, the server at MILVUS_URL, else one that is started for the purpose.
A partition moves 10,000 records here; what is printed does not depend on their number. All other partitions of the plan
are done, because state is read by every run. "command" is a partition in a process that has moved one before, as
`migrate` and its workers do it. "ui" is the process that Dagster starts for each run, told by `dagster job execute`,
without the time that the daemon takes to notice a run (1 to 6 s by its settings). Medians, in seconds:

    start     from being given the partition to its first read
    moving    to the last acknowledgement
    closing   to the end of the load: the end of the source is asked for twice, and recorded
    sample    reading 100 records back from both sides and comparing them
    end       all else to the end of the run: state, check, materialization, events
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from rich.console import Console
from rich.table import Table

from benchmarks.transfer import Sides, milvus
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.databases.milvus.database import Milvus
from vectormigrate_dagster.defs import names, ops
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.planning import sync_keys
from vectormigrate_dagster.defs.state import PartitionState
from vectormigrate_dagster.mapping.plan import Plan, PlannedSplit
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.plan import ensure_plan
from vectormigrate_dagster.services.workers import Order, ThisProcess
from vectormigrate_dagster_tests.harness import ID, Records, Workplace, environment, fill

CONSOLE = Console(highlight=False)
PARTITION = 10_000
MEASURED = 5
PHASES = ("start", "moving", "closing", "sample", "end")


def main() -> None:
    """Move some partitions by each path and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=400, help="partitions of the plan, done ones included")
    asked = parser.parse_args()
    records = Records.of(PARTITION * (2 * MEASURED + 1), 384)
    with tempfile.TemporaryDirectory() as folder, milvus(Path(folder)) as sides:
        fill(sides.source, records)
        try:
            command, ui = measure(Path(folder), sides, asked.partitions)
        finally:
            for side in (sides.source, sides.target):
                with databases.open_target(side) as left:
                    left.drop()
    table = Table("path", *PHASES, "all but moving", "of a 60 s partition")
    for path, phases in (("command", command), ("ui", ui)):
        share = sum(phases.values()) - phases["moving"]
        cells = [f"{phases[phase]:.2f}" if phase in phases else "" for phase in PHASES]
        table.add_row(path, *cells, f"{share:.2f}", f"{share / (share + 60):.1%}")
    CONSOLE.print(table)


def measure(folder: Path, sides: Sides, partitions: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each phase of a partition, by the command's path and by the UI's."""
    place = Workplace.make(
        folder / "place", sides.source, sides.target, transfer={"partition_records": PARTITION, "workers": 1}
    )
    migration = Context(place.migrations, place.home).migration(ID)
    with open_home(place.home) as instance:
        plan = padded(instance, ensure_plan(instance, migration), partitions)
        sync_keys(instance, ID, plan)
        here = ThisProcess(Order(home=place.home, migration=migration), instance)
        here.load(plan.keys[0])
        command = [phases_of(here.load, key) for key in plan.keys[1 : 1 + MEASURED]]
    ui = [run_of_ui(place, key) for key in plan.keys[1 + MEASURED : 1 + 2 * MEASURED]]
    return medians(command), medians(ui)


def padded(instance: dg.DagsterInstance, plan: Plan, partitions: int) -> Plan:
    """The plan with partitions behind all records, which are done."""
    log = MigrationLog(instance, ID)
    known = len(plan.splits)
    cuts = [str(10**12 + number) for number in range(max(0, partitions - known))]
    more = [
        PlannedSplit(key=f"g0001-{known + number:05}", split=Split(kind=IdKind.I64, after=cut, last=str(int(cut) + 1)))
        for number, cut in enumerate(cuts)
    ]
    plan = plan.model_copy(update={"splits": (*plan.splits, *more)})
    log.record_plan(plan, description="padded", metadata={})
    plan = MigrationLog(instance, ID).require_plan()
    for planned in more:
        state = PartitionState(plan=plan.digest, state="done", run_id="before", acknowledged=1, loaded=True)
        log.record(planned.key, state)
    return plan


def phases_of(load: Callable[[str], None], key: str) -> dict[str, float]:
    """Seconds of each phase of one partition in this process."""
    marks: dict[str, float] = {}
    with ExitStack() as patches:
        patches.enter_context(noted(Source, "scan", marks, first="read"))
        patches.enter_context(noted(Milvus, "upsert", marks, last="acknowledged"))
        patches.enter_context(noted(ops.Recorder, "reached_end", marks, last="closed"))
        patches.enter_context(noted(ops, "validate_split", marks, first="sample", last="sampled"))
        began = time.perf_counter()
        load(key)
        ended = time.perf_counter()
    sample = marks["sampled"] - marks["sample"]
    return {
        "start": marks["read"] - began,
        "moving": marks["acknowledged"] - marks["read"],
        "closing": marks["closed"] - marks["acknowledged"],
        "sample": sample,
        "end": ended - marks["closed"] - sample,
    }


@contextmanager
def noted(owner: Any, name: str, marks: dict[str, float], *, first: str = "", last: str = "") -> Iterator[None]:
    """Note when a function is first called and when it last returned."""
    function = getattr(owner, name)

    def call(*given: Any, **named: Any) -> Any:
        marks.setdefault(first, time.perf_counter())
        try:
            return function(*given, **named)
        finally:
            marks[last] = time.perf_counter()

    with patch.object(owner, name, call):
        yield


def run_of_ui(place: Workplace, key: str) -> dict[str, float]:
    """Seconds of a run in a process of its own: of the process, and of moving records in it."""
    tags = {"dagster/partition": key, **names.partition_run_tags(ID, ID)}
    words = ["job", "execute", "-m", "vectormigrate_dagster.definitions", "-j", ID, "--tags", json.dumps(tags)]
    where = {"DAGSTER_HOME": str(place.home), "VECTORMIGRATE_MIGRATIONS": str(place.migrations)}
    began = time.perf_counter()
    command = [sys.executable, "-m", "dagster", *words]
    done = subprocess.run(command, env={**environment(), **where}, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    moving = dict(place.history())[key].seconds
    return {"end": whole - moving, "moving": moving}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each phase."""
    return {phase: statistics.median(run[phase] for run in runs) for phase in runs[0]}


if __name__ == "__main__":
    main()
