"""What it costs to plan a collection of any size: calls, time, memory, partitions, and what is stored in Dagster.

    python -m benchmarks.planning                # up to 10^9 records, every database; Pinecone's up to 10^7
    python -m benchmarks.planning --records 1000000000 --partition-records 100000

The databases are the real classes whose lowest level answers from computed ids (`huge_databases`), so "planning s" is
the time of this process alone: what a server takes for each call comes on top, eight calls at a time. "Dagster s" is
storing the plan, adding its partition keys, and reading a status of as many partitions, in a new home. Memory is the
peak of what Python allocated for the plan. A billion ids of Pinecone are 5,000 splits, whose calls take minutes
to compute here: they are planned where `--records` asks for them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint, Source
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.planning import summary, sync_keys, tables
from vectormigrate_dagster.mapping.plan import Plan, make_plan
from vectormigrate_dagster_tests.huge_databases import DATABASES, Counted, opened

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
COLUMNS = ("database", "ids", "records", "splits", "calls", "a split", "planning s", "MiB", "plan KiB", "Dagster s")


def main() -> None:
    """Plan every kind of collection and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", help="sizes; 10^6 to what a database is simulated for if not")
    parser.add_argument("--partition-records", type=int, help="records of a partition; auto if not given")
    parser.add_argument("--databases", default=",".join(DATABASES))
    asked = parser.parse_args()
    table = Table(*COLUMNS)
    for name in asked.databases.split(","):
        total = DATABASES[name].total
        for kind in DATABASES[name].kinds:
            for records in asked.records or sorted({10**6, total // 10, total}):
                table.add_row(name, kind, f"{records:,}", *measure(name, kind, records, asked.partition_records))
    CONSOLE.print(table)


def measure(name: str, kind: str, records: int, partition_records: int | None) -> list[str]:
    """The cells of one plan, behind what it is of."""
    with tempfile.TemporaryDirectory() as folder:
        migration = migration_of(opened(name, kind, records), Path(folder), partition_records)
        plan, calls, seconds = planned(name, kind, records, migration)
        tracemalloc.start()
        planned(name, kind, records, migration)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        dagster = stored(Path(folder) / "home", migration, plan)
    splits, size = len(plan.splits), len(plan.model_dump_json().encode())
    cells = (f"{splits:,}", f"{calls:,}", f"{calls / splits:.1f}", f"{seconds:.2f}")
    return [*cells, f"{peak / 2**20:.0f}", f"{size / 2**10:,.0f}", f"{dagster:.2f}"]


def planned(name: str, kind: str, records: int, migration: Migration) -> tuple[Plan, int, float]:
    """A plan, the calls that it took, and seconds."""
    database = opened(name, kind, records)
    path = migration.target.path
    with databases.open_source(Endpoint(type="milvus", path=path, collection="huge")) as target:
        began = time.perf_counter()
        plan = make_plan(Source(database), target, migration, generation=1)
        seconds = time.perf_counter() - began
    return plan, database.calls.total(), seconds


def stored(home: Path, migration: Migration, plan: Plan) -> float:
    """Seconds of storing a plan and its keys, and of reading them again as `status` does."""
    with open_home(home) as instance:
        began = time.perf_counter()
        log = MigrationLog(instance, migration.id)
        log.record_plan(plan, description=summary(plan), metadata=tables(plan))
        sync_keys(instance, migration.id, plan)
        log.refresh()
        keys = instance.get_dynamic_partitions(names.partitions_name(migration.id))
        seconds = time.perf_counter() - began
        if tuple(keys) != log.require_plan().keys:
            raise SystemExit(f"Dagster has {len(keys):,} keys, the plan {len(plan.splits):,}")
        return seconds


def migration_of(source: Counted, folder: Path, partition_records: int | None) -> Migration:
    """A migration of such a collection into a folder that is never made."""
    return Migration.model_validate(
        {
            "id": "huge",
            "source": {"type": source.endpoint.type, "url": source.endpoint.url, "collection": "huge"},
            "target": {"type": "milvus", "path": str(folder / "target.db"), "collection": "huge"},
            "transfer": {"partition_records": partition_records or "auto"},
        }
    )


if __name__ == "__main__":
    main()
