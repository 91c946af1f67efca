"""How long a look for changes by a field takes: by whole records, by all without vectors, by those from a number on.

    python -m benchmarks.polling                                    # 20,000 records of 384 dimensions, 20 changed
    QDRANT_URL=... QDRANT_GRPC_URL=... python -m benchmarks.polling --databases qdrant

Each way reads and checks records as `vectormigrate poll` does, without the journal. The servers are those of
`benchmarks.transfer`. Each way runs several times, in turn; medians count.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.transfer import SERVERS, filled
from vectormigrate_dagster import databases
from vectormigrate_dagster.databases.source import FieldSource, Source
from vectormigrate_dagster.live.polling import Poll, Watermark
from vectormigrate_dagster.model import Split
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster_tests.harness import Records

FIELD = "number"
WAYS: dict[str, Callable[[Source, Poll], Source]] = {
    "whole records": lambda source, poll: source,  # noqa: ARG005  # what polls did first
    "without vectors": lambda source, poll: FieldSource(source, FIELD),  # noqa: ARG005  # a first poll, and of times
    "from a number on": lambda source, poll: FieldSource(source, FIELD, poll.at_least),
}


def main() -> None:
    """Fill a source, look at it in every way, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", default="milvus")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--changed", type=int, default=20)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    table = Table("server", "read", "records read", "seconds", "records of the source a second")
    for name in asked.databases.split(","):
        with tempfile.TemporaryDirectory() as folder, SERVERS[name](Path(folder)) as sides:
            filled(sides.source, Records.of(asked.records, asked.dim), "FLAT")
            with databases.open_source(sides.source) as source:
                splits, floor = source.plan_splits(10**9), asked.records - asked.changed + 1
                runs = [[look(source, splits, way, floor) for way in WAYS] for _ in range(asked.repeat)]
            with databases.open_target(sides.source) as target:
                target.drop()
            for way, measured in zip(WAYS, zip(*runs, strict=True), strict=True):
                seconds = statistics.median(one[1] for one in measured)
                table.add_row(
                    sides.servers, way, f"{measured[0][0]:,}", f"{seconds:.3f}", f"{asked.records / seconds:,.0f}"
                )
    Console(highlight=False, width=120).print(table)


def look(source: Source, splits: Sequence[Split], way: str, floor: int) -> tuple[int, float]:
    """Records that are read, and seconds."""
    poll = Poll(FIELD, Watermark(unit="number", floor=floor, high=floor), overlap=0)
    began = time.perf_counter()
    looked_at = WAYS[way](source, poll)
    for split in splits:
        for _ in poll.changed(read_split(looked_at, split, throttle=Throttle(), page_records=PAGE_RECORDS)):
            pass
    return poll.seen, time.perf_counter() - began


if __name__ == "__main__":
    main()
