"""What a write through `DualWriter` costs beside the client's own call.

    python -m benchmarks.dual_writer                       # about a minute
    python -m benchmarks.dual_writer --engines sqlite --writes 5000

The client is Qdrant's own in its local mode, which upserts records of 128 dimensions within this process; each write is
made once bare and once through a `DualWriter`, in turn, and "more" is what the writer adds at the median. With 4
threads the bare client's own threads wait for each other too. The journal is a file on the local disk, or in the
Postgres at POSTGRES_URL, else in one that is started for the purpose and waits for the disk at each commit. The disk's
own time for one small write, taken before and after, is told beside: it is in every write to Postgres.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models
from rich.console import Console
from rich.table import Table

from vectormigrate_dagster.live.dual_writer import DualWriter
from vectormigrate_dagster.live.journal import Journal, JournalDatabase
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.servers import postgres

CONSOLE = Console(highlight=False, width=120)
DIM = 128
GOAL_MS = 1.0
COLLECTION = "writes"
Write = Callable[[Sequence[int]], None]


@contextmanager
def journal(engine: str, folder: Path) -> Iterator[str]:
    """The address of a new journal with one migration."""
    with ExitStack() as stack:
        if engine == "sqlite":
            url = f"sqlite:///{folder / 'journal.db'}"
        else:
            server = postgres.given_url() or stack.enter_context(postgres.PostgresServer.start(sync=True)).url
            url = stack.enter_context(postgres.database_of_its_own(server))
        database = JournalDatabase(url)
        Journal.register(database, COLLECTION, id_kinds=[IdKind.U64], by="benchmark")
        database.close()
        yield url


def measure(writes: Sequence[Write], *, batch: int, threads: int, times: int) -> list[list[float]]:
    """Seconds of each write in each way; every thread takes the ways in turn."""
    taken: list[list[float]] = [[] for _ in writes]
    numbers, ready = count(), threading.Barrier(threads)

    def work() -> None:
        ready.wait()
        for _ in range(times // threads):
            for write, seconds in zip(writes, taken, strict=True):
                ids = [next(numbers) % 10_000 for _ in range(batch)]
                began = time.perf_counter()
                write(ids)
                seconds.append(time.perf_counter() - began)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return taken


def disk_seconds(folder: Path) -> float:
    """The median time of a write of 4 KiB that reaches the disk."""
    taken = []
    with (folder / "disk").open("wb", buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def run(engine: str, table: Table, *, writes: int, folder: Path) -> None:
    """Measure one engine."""
    client = QdrantClient(":memory:")
    client.create_collection(COLLECTION, models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    vector = np.random.default_rng(7).random(DIM).tolist()
    lock = threading.Lock()  # the local mode is not made for threads

    def send(ids: Sequence[int]) -> None:
        with lock:
            client.upsert(COLLECTION, [models.PointStruct(id=number, vector=vector) for number in ids])

    with journal(engine, folder) as url, DualWriter(url, COLLECTION) as writer:

        def through(ids: Sequence[int]) -> None:
            writer.upsert(ids, source=lambda: send(ids))

        def alone(ids: Sequence[int]) -> None:
            writer.upsert(ids, source=lambda: None)

        for batch, threads in ((1, 1), (100, 1), (1, 4), (100, 4)):
            times = max(40, writes // (10 if batch > 1 else 1))
            bare, with_journal, overhead = measure([send, through, alone], batch=batch, threads=threads, times=times)
            more = statistics.median(with_journal) - statistics.median(bare)
            table.add_row(
                engine,
                f"{batch}",
                f"{threads}",
                *(f"{_ms(bare, q)}" for q in (50, 99)),
                *(f"{_ms(with_journal, q)}" for q in (50, 99)),
                *(f"{_ms(overhead, q)}" for q in (50, 99)),
                f"{more * 1e3:.3f}",
                f"{more * 1e3 / batch:.4f}",
            )


def _ms(seconds: Sequence[float], percent: int) -> str:
    return f"{float(np.percentile(seconds, percent)) * 1e3:.3f}"


def main() -> None:
    """Measure both engines and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", default="sqlite,postgres")
    parser.add_argument("--writes", type=int, default=2000, help="single writes of each way; a tenth of it in batches")
    given = parser.parse_args()
    columns = (
        "engine",
        "batch",
        "threads",
        "bare p50",
        "p99",
        "with p50",
        "p99",
        "alone p50",
        "p99",
        "more",
        "a record",
    )
    table = Table(*columns, title="milliseconds")
    with tempfile.TemporaryDirectory() as folder:
        before = disk_seconds(Path(folder))
        for engine in given.engines.split(","):
            run(engine, table, writes=given.writes, folder=Path(folder))
        after = disk_seconds(Path(folder))
    CONSOLE.print(table)
    CONSOLE.print(
        f"'more' is to be under {GOAL_MS:g}; one write to the disk takes {before * 1e3:.2f} and {after * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
