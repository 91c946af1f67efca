"""How long a warm sidecar takes to answer, on SQLite and on Postgres.

`python -m benchmarks.sidecar` makes storages of 500 partitions, 1,000 runs and 20,000 state events, serves each over
HTTP in this process, and prints the median and the 95th percentile of `migration_status` in milliseconds:

- "warm": asked again and again, as a busy sidecar is; every two seconds a thread looks at the storage meanwhile;
- "storage": every read looks at the storage, as the first one after a pause does;
- "changing": so too, and a partition has a new state each time, as while records are moved;
- "cold": `services.status`, which has no memory; in this process, without HTTP.

`--storage sqlite` or `--storage postgres` measures one alone. Postgres is the server at POSTGRES_URL, or else one that
this process starts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import httpx
import yaml
from sqlalchemy import text

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.state import PartitionState, PlanSummary
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.plan import plan
from vectormigrate_dagster.services.status import status
from vectormigrate_dagster.services.warm import MAX_AGE_SECONDS, Reader
from vectormigrate_dagster.sidecar.app import create_app
from vectormigrate_dagster.sidecar.settings import Limits, Settings
from vectormigrate_dagster_tests.harness import COLLECTION, ID, Records, Workplace, fill
from vectormigrate_dagster_tests.servers import postgres
from vectormigrate_dagster_tests.sidecar.faces.serving import serving

PARTITIONS, RUNS, EVENTS = 500, 1000, 20_000
LOADING = 4
"""Partitions that are said to be at work."""
READS = 300
COLD_READS = 10
CALL = {"jsonrpc": "2.0", "id": 1, "method": "migration_status", "params": {"migration_id": ID}}


def main() -> None:
    """Make the storages, read from each, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), action="append")
    chosen = parser.parse_args().storage or ["sqlite", "postgres"]
    for storage in chosen:
        with tempfile.TemporaryDirectory() as folder, _database(storage) as url:
            context, planned = _migration(Path(folder), url)
            for kind, seconds in _measure(context, planned).items():
                slow = statistics.quantiles(seconds, n=20)[-1]
                told = f"median {statistics.median(seconds) * 1e3:7.2f} ms   95 % {slow * 1e3:7.2f} ms"
                sys.stdout.write(f"{storage:9} {kind:9} {told}   {len(seconds)} reads\n")


def _measure(context: Context, planned: PlanSummary) -> dict[str, list[float]]:
    """Seconds of each read, by kind."""
    found = {}
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        number = iter(range(10**6))

        def change() -> None:
            log.record(planned.keys[next(number) % LOADING], _state(planned, "loading"))

        for kind, max_age, before in (
            ("warm", MAX_AGE_SECONDS, None),
            ("storage", 0.0, None),
            ("changing", 0.0, change),
        ):
            with _asking(context, max_age) as ask:
                ask()
                found[kind] = [_timed(ask, before) for _ in range(READS)]
    found["cold"] = [_timed(lambda: status(context, ID)) for _ in range(COLD_READS)]
    return found


@contextmanager
def _asking(context: Context, max_age: float) -> Iterator[Callable[[], None]]:
    """A read over HTTP of a sidecar whose answers may be so old."""
    settings = Settings(limits=Limits(requests_per_minute=10**9))
    app = create_app(context, settings, reader=Reader(context, max_age=max_age))
    with serving(app) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def ask() -> None:
            answer = client.post("/", json=CALL).json()
            if answer["result"]["partitions"]["total"] < PARTITIONS:
                raise AssertionError(answer)

        yield ask


def _timed(call: Callable[[], object], before: Callable[[], None] | None = None) -> float:
    if before is not None:
        before()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def _database(storage: str) -> Iterator[str | None]:
    """The address of an empty Postgres database; None for SQLite, which is in the home."""
    if storage == "sqlite":
        yield None
        return
    with ExitStack() as stack:
        server = postgres.given_url() or stack.enter_context(postgres.PostgresServer.start()).url
        yield stack.enter_context(postgres.database_of_its_own(server))


def _migration(folder: Path, url: str | None) -> tuple[Context, PlanSummary]:
    source = Endpoint(type="milvus", path=folder / "source.db", collection=COLLECTION)
    fill(source, Records.of(PARTITIONS))
    place = Workplace.make(folder / "place", source, "milvus", transfer={"partition_records": 1})
    context = Context(place.migrations, place.home)
    if url is not None:
        place.home.mkdir()
        address = url.replace("postgresql://", "postgresql+psycopg2://")
        config = {"storage": {"postgres": {"postgres_url": address}}, "telemetry": {"enabled": False}}
        (place.home / "dagster.yaml").write_text(yaml.safe_dump(config))
    plan(context, ID)
    with context.instance() as instance:
        log = MigrationLog(instance, ID)
        planned = log.require_summary()
        for number, key in enumerate(planned.keys):
            log.record(key, _state(planned, "loading" if number < LOADING else "done"))
        _repeat_events(instance, times=EVENTS // len(planned.keys) - 1)
        for number in range(RUNS):
            tags = {**names.partition_run_tags(ID, ID), "number": str(number)}
            instance.add_run(dg.DagsterRun(job_name=ID, tags=tags, status=dg.DagsterRunStatus.SUCCESS))
    sys.stdout.write(f"{len(planned.keys)} partitions, {RUNS} runs, {EVENTS} state events\n")
    return context, planned


def _state(planned: PlanSummary, phase: str) -> PartitionState:
    return PartitionState(plan=planned.digest, state=phase, run_id="run", acknowledged=1)  # type: ignore[arg-type]


def _repeat_events(instance: dg.DagsterInstance, *, times: int) -> None:
    """Put copies of every state event behind it, which is far quicker than recording each."""
    columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
    statement = f"insert into event_logs ({columns}) select {columns} from event_logs where id between :first and :last"  # noqa: S608
    with instance.event_log_storage.index_connection() as connection:
        of_states = "dagster_event_type = 'ASSET_OBSERVATION'"
        bounds = connection.execute(text(f"select min(id), max(id) from event_logs where {of_states}"))  # noqa: S608
        first, last = bounds.one()
        for _ in range(times):
            connection.execute(text(statement), {"first": first, "last": last})


if __name__ == "__main__":
    main()
