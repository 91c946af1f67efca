"""The figures of `/metrics`: made from Dagster's storage when they are asked for, and from what the sidecar counts.

Labels are bounded: migrations that have a file, and words of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from vectormigrate_dagster.errors import VectorMigrateError
from vectormigrate_dagster.services.models import MigrationStatus, Status
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.sidecar.counters import Counters

Value = Callable[[Status], float | None]

_OF_MIGRATIONS: tuple[tuple[str, str, Value], ...] = (
    ("source_records", "Records of the source when it was planned.", lambda s: s.progress.total_records),
    ("migrated_records", "Records in the target because of the migration.", lambda s: s.progress.migrated_records),
    ("progress_ratio", "Migrated records of all, 0 to 1.", lambda s: s.progress.percentage / 100),
    ("records_per_second", "Rate of running work.", lambda s: s.rate_per_second or 0.0),
    ("eta_seconds", "Time left at that rate; absent while nothing runs.", lambda s: s.eta_seconds),
    ("batches", "Batches written.", lambda s: s.batches_processed),
    ("state_age_seconds", "Age of the newest recorded state.", lambda s: s.stale_seconds),
    ("lag_records", "Changes of the application that the target does not have yet.", lambda s: s.live.lag_records),
    ("lag_seconds", "Age of the oldest of these changes.", lambda s: s.live.lag_seconds),
    ("lag_timestamp_seconds", "When somebody looked at them last.", lambda s: _seconds(s.live.at)),
    ("validation_passed", "1 if the newest validation passed, 0 if not.", lambda s: _number(s.validation.passed)),
    ("validated_records", "Records that it compared.", lambda s: s.validation.checked),
    ("mismatched_records", "Records that it found different.", lambda s: s.validation.mismatched),
    ("validation_timestamp_seconds", "When it ended.", lambda s: _seconds(s.validation.at)),
)


def exposition(reader: Reader, counters: Counters) -> bytes:
    """The page that Prometheus reads; it is complete even while Dagster's storage cannot be read, and says so."""
    registry = CollectorRegistry()
    registry.register(_Figures(reader, counters))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, reader: Reader, counters: Counters) -> None:
        self._reader = reader
        self._counters = counters

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: otherwise the registry would collect once to learn the names."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """All figures, each family once."""
        try:
            statuses, broken = self._reader.statuses(), len(self._reader.list_migrations(limit=1).broken)
            readable = True
        except VectorMigrateError:
            statuses, broken, readable = (), 0, False
        up = "1 if Dagster's storage and the migrations folder could be read, 0 if not."
        yield GaugeMetricFamily("vectormigrate_storage_up", up, value=float(readable))
        yield GaugeMetricFamily(
            "vectormigrate_broken_files", "Files of the migrations folder that are none.", value=float(broken)
        )
        for name, meaning, value in _OF_MIGRATIONS:
            yield _by_migration(name, meaning, statuses, value)
        yield _status(statuses)
        yield _partitions(statuses)
        yield _unmoved(statuses)
        yield from _of_the_sidecar(self._counters)


def _by_migration(name: str, help: str, statuses: Iterable[Status], value: Value) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"vectormigrate_migration_{name}", help, labels=["migration"])
    for status in statuses:
        if (number := value(status)) is not None:
            family.add_metric([status.migration_id], number)
    return family


def _status(statuses: Iterable[Status]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "vectormigrate_migration_status",
        "1 for the status that it has, 0 for the others.",
        labels=["migration", "status"],
    )
    for status in statuses:
        for word in get_args(MigrationStatus):
            family.add_metric([status.migration_id, word], float(status.status == word))
    return family


def _partitions(statuses: Iterable[Status]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "vectormigrate_migration_partitions", "Partitions by state.", labels=["migration", "state"]
    )
    for status in statuses:
        counts = status.partitions
        waiting = max(0, counts.total - counts.done - counts.failed - counts.running)
        states = {"done": counts.done, "failed": counts.failed, "running": counts.running, "waiting": waiting}
        for state, number in states.items():
            family.add_metric([status.migration_id, state], number)
    return family


def _unmoved(statuses: Iterable[Status]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "vectormigrate_migration_unmoved_records", "Records not moved, by reason.", labels=["migration", "reason"]
    )
    for status in statuses:
        for reason in ("skipped", "refused", "vanished"):
            family.add_metric([status.migration_id, reason], getattr(status, reason))
    return family


def _of_the_sidecar(counters: Counters) -> Iterator[CounterMetricFamily]:
    requests = CounterMetricFamily(
        "vectormigrate_sidecar_requests", "Requests by route and HTTP status.", labels=["route", "status"]
    )
    for (route, status), number in sorted(counters.requests().items()):
        requests.add_metric([route, str(status)], number)
    yield requests
    seconds = CounterMetricFamily(
        "vectormigrate_sidecar_request_seconds", "Time until answers began, by route.", labels=["route"]
    )
    for route, spent in sorted(counters.seconds().items()):
        seconds.add_metric([route], spent)
    yield seconds
    refusals = CounterMetricFamily("vectormigrate_sidecar_refusals", "Refusals by reason.", labels=["reason"])
    for reason, number in sorted(counters.refusals().items()):
        refusals.add_metric([reason], number)
    yield refusals


def _number(word: bool | None) -> float | None:
    return None if word is None else float(word)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
