"""What a full validation costs, beside what cannot be avoided: reading both sides.

    python -m benchmarks.validation                     # 200,000 x 768 floats, then 100,000 records of 768 dimensions
    python -m benchmarks.validation --servers ""        # the arrays alone

Arrays are larger than the last-level cache, and compared by one thread. Their speed is set beside that of a copy, which
counts the bytes read and those written; a comparison reads as many. Time is the processor's: the clock's on a quiet
machine, and it tells more on a busy one. "unequal" arrays differ in one component of every row; "normalised" ones are
compared with the rows that they are scaled from, component by component.

Records with five payload fields are in a server twice. `qdrant` is the stand-in that answers at once and serves the
same pages to both sides (`benchmarks.at_once`); `milvus` is the server at MILVUS_URL, else one that is started for the
purpose. "scan" is the time of reading the source to its end and then the target, "validation" that of all tiers but
search, in the same process; CPU time is this process' own. Medians of three, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.client import server
from benchmarks.stand_ins import collection
from benchmarks.transfer import milvus
from vectormigrate_dagster import databases
from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.mapping.profiler import Profiler
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import map_schema
from vectormigrate_dagster.model import Dense, Split
from vectormigrate_dagster.model.vector_compare import angles, rows_that_differ
from vectormigrate_dagster.transfer.heap import keep_heap_small, look_for_cycles_seldom
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation import validate_full
from vectormigrate_dagster.validation.tolerance import tolerance_of
from vectormigrate_dagster_tests.harness import Records, fill

CONSOLE = Console(highlight=False)
EQUAL, UNEQUAL = 0.5, 0.25
"""Least share of a copy's speed."""

MOST = 1.3
"""Longest validation, in times of the scans."""

_PROFILED = 1000
_SPLIT_RECORDS = 25_000


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of this process' processors."""

    wall: float
    cpu: float


def main() -> None:
    """Measure arrays, then records, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--servers", default="qdrant,milvus")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    speeds = arrays(asked.rows, asked.dim, asked.repeat)
    show_arrays(speeds, asked)
    figures = {}
    for name in filter(None, asked.servers.split(",")):
        with sides(name, asked.records, asked.dim) as ends:
            figures[name] = records(ends, asked.records, asked.repeat, whole=name != "milvus")
    if figures:
        show_records(figures, asked)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"gigabytes_a_second": speeds, "validation": figures}, default=vars) + "\n")


def arrays(rows: int, dim: int, repeat: int) -> dict[str, float]:
    """Bytes a second, in 10^9, of a copy and of each comparison."""
    values = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    other = values.copy()
    one, two, everything = Dense(values), Dense(other), np.arange(rows)
    moved = 2 * values.nbytes
    speeds = {"copy": _speed(lambda: np.copyto(other, values), moved, repeat)}
    speeds["equal"] = _speed(lambda: _require(not rows_that_differ(one, two).any()), moved, repeat)
    other[everything, everything % dim] += 1
    speeds["unequal"] = _speed(lambda: _require(rows_that_differ(one, two).all()), moved, repeat)
    other[:] = values / np.linalg.norm(values, axis=1, keepdims=True)
    speeds["normalised"] = _speed(
        lambda: _require(not angles(one, two, everything, scaled=True).off.any()), moved, repeat
    )
    return speeds


def _speed(work: Callable[[], None], moved: int, repeat: int) -> float:
    return moved / min(_cost(work).cpu for _ in range(repeat)) / 1e9


def _require(expected: bool) -> None:
    if not expected:
        raise SystemExit("the comparison came to a wrong result")


def _cost(work: Callable[[], None]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def records(ends: tuple[Endpoint, Endpoint], count: int, repeat: int, *, whole: bool) -> dict[str, Cost]:
    """Medians of scanning both sides and of validating everything.

    Args:
        whole: in one split, as the stand-ins have no more.
    """
    keep_heap_small()  # as everything that moves or compares records does
    look_for_cycles_seldom()
    with databases.open_source(ends[0]) as source, databases.open_target(ends[1]) as target:
        source.probe()
        target.probe()
        mapper = _mapper(source, target)
        splits = [Split(kind=source.describe().ids.kinds[0])] if whole else source.plan_splits(_SPLIT_RECORDS)
        tolerance = tolerance_of(mapper.mapping.target_schema, target.capabilities, 0.9999)

        def scan() -> None:
            found = sum(_read(side, splits) for side in (source, Source(target)))
            _require(found == 2 * count)

        def validate() -> None:
            report = validate_full(source, target, mapper, splits, tolerance=tolerance)
            if not report.passed or report.tier("records").checked != count:
                raise SystemExit("; ".join(tier.statement for tier in report.tiers))

        scan()  # the server makes its pages
        scans, validations = [], []
        for _ in range(repeat):
            scans.append(_cost(scan))
            validations.append(_cost(validate))
    return {"scan": _median(scans), "validation": _median(validations)}


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def _read(side: Source, splits: Sequence[Split]) -> int:
    """Read everything, as the validation does."""
    throttle = Throttle()
    with side.as_of_now():
        return sum(
            len(batch)
            for split in splits
            for batch in read_split(side, split, throttle=throttle, page_records=PAGE_RECORDS)
        )


def _mapper(source: Source, target: Database) -> RecordMapper:
    described = source.describe()
    profiler = Profiler()
    split = Split(kind=described.ids.kinds[0])
    profiler.add(next(iter(source.scan(split, batch_records=_PROFILED))))
    mapping, _ = map_schema(
        described,
        source.capabilities,
        target.capabilities,
        MappingConfig(),
        profiler.profile(),
        collection=target.endpoint.collection,
    )
    return RecordMapper(mapping)


@contextmanager
def sides(name: str, count: int, dim: int) -> Iterator[tuple[Endpoint, Endpoint]]:
    """Two endpoints that hold the same records."""
    if name != "milvus":
        with server(name, count, dim) as endpoint:
            if endpoint.type != "milvus":  # whose stand-in has the collection
                with databases.open_target(endpoint) as target:
                    target.probe()
                    target.create(collection(endpoint.collection, target.capabilities, dim))
            yield endpoint, endpoint
        return
    with tempfile.TemporaryDirectory() as folder, milvus(Path(folder)) as ends:
        made = [replace(ends.source, collection=f"validated_{side}") for side in ("source", "target")]
        try:
            for endpoint in made:
                fill(endpoint, Records.of(count, dim))
            yield made[0], made[1]
        finally:
            for endpoint in made:
                with databases.open_target(endpoint) as database:
                    database.drop()


def show_arrays(speeds: dict[str, float], asked: argparse.Namespace) -> None:
    """Print one row per kind of arrays."""
    table = Table("arrays", "GB/s", "of a copy", "at least", title=f"{asked.rows:,} x {asked.dim} float32, one thread")
    least = {"equal": EQUAL, "unequal": UNEQUAL}
    for name, speed in speeds.items():
        wanted = f"{least[name]:.2f}" if name in least else ""
        table.add_row(name, f"{speed:.1f}", f"{speed / speeds['copy']:.2f}", wanted)
    CONSOLE.print(table)


def show_records(figures: dict[str, dict[str, Cost]], asked: argparse.Namespace) -> None:
    """Print one row per server."""
    table = Table("servers", "scan s", "validation s", "times", "at most", "scan CPU s", "validation CPU s", "times")
    table.title = f"{asked.records:,} records of {asked.dim} dimensions, medians of {asked.repeat}"
    for name, found in figures.items():
        scan, validation = found["scan"], found["validation"]
        times = [f"{validation.wall / scan.wall:.2f}", f"{validation.cpu / scan.cpu:.2f}"]
        table.add_row(
            name,
            f"{scan.wall:.2f}",
            f"{validation.wall:.2f}",
            times[0],
            f"{MOST}",
            f"{scan.cpu:.2f}",
            f"{validation.cpu:.2f}",
            times[1],
        )
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
