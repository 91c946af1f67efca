"""The documents that verbs answer with: what `--json` prints and what the sidecar sends.

Numbers are numbers, times are RFC 3339 in UTC, unknown values are null; an object inside a document is always there.
No document holds a secret.
"""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from vectormigrate_dagster.mapping.loss import LossRow

__all__ = [
    "BrokenFile",
    "DemoDocument",
    "DemoValidation",
    "EndpointDocument",
    "Estimate",
    "ExportDocument",
    "ExportedScope",
    "ListProgress",
    "ListedMigration",
    "LiveStatus",
    "LookupDocument",
    "LossCounts",
    "MigrationList",
    "MigrationStatus",
    "PartitionCounts",
    "PlanDocument",
    "Progress",
    "RecordPlace",
    "Status",
    "TierResult",
    "Utc",
    "ValidationDocument",
    "ValidationSummary",
]

Utc = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
"""A moment; its text ends in `Z`."""

Count = Annotated[int, Field(ge=0)]
MigrationStatus = Literal["not_started", "planned", "in_progress", "completed", "failed", "stopped", "rolled_back"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EndpointDocument(_Document):
    """A source or target, without any secret."""

    type: str
    address: str
    collection: str


class Progress(_Document):
    """How far a migration is."""

    total_records: Count = 0
    migrated_records: Count = 0
    percentage: float = 0.0

    @classmethod
    def of(cls, migrated: int, total: int) -> Progress:
        """Progress with its percentage, rounded down so that 100 means all."""
        return cls(total_records=total, migrated_records=migrated, percentage=_percentage(migrated, total))


class PartitionCounts(_Document):
    """How many partitions there are, and in which state."""

    total: Count = 0
    done: Count = 0
    failed: Count = 0
    running: Count = 0


class LossCounts(_Document):
    """How many things of the source have each grade in the target."""

    exact: Count = 0
    widened: Count = 0
    lossy: Count = 0
    refused: Count = 0


class ValidationSummary(_Document):
    """The newest validation of the whole migration; all null if there was none."""

    passed: bool | None = None
    tier: str | None = None
    checked: int | None = None
    mismatched: int | None = None
    at: Utc | None = None


class LiveStatus(_Document):
    """How far the journal of the application's changes is behind; null where there is no journal."""

    lag_records: int | None = None
    lag_seconds: float | None = None
    can_cut_over: bool = False
    blocked_by: tuple[str, ...] = ()


class Status(_Document):
    """Where a migration stands.

    Args:
        phase: what is being done or comes next, in one word.
        rate_per_second: records per second of running work; null while nothing runs.
        eta_seconds: time left at that rate.
        skipped: records left alone because the target already had their id.
        refused: records that cannot be moved; listed with their reasons in the home.
        vanished: records that the source listed and could no longer give.
        stale_seconds: age of the newest recorded state.
        runs: Dagster run ids, the newest first.
    """

    migration_id: str
    status: MigrationStatus
    phase: str
    progress: Progress = Progress()
    batches_processed: Count = 0
    started_at: Utc | None = None
    ended_at: Utc | None = None
    rate_per_second: float | None = None
    eta_seconds: float | None = None
    partitions: PartitionCounts = PartitionCounts()
    skipped: Count = 0
    refused: Count = 0
    vanished: Count = 0
    source: EndpointDocument
    target: EndpointDocument
    loss: LossCounts = LossCounts()
    validation: ValidationSummary = ValidationSummary()
    live: LiveStatus = LiveStatus()
    last_error: str | None = None
    stale_seconds: float | None = None
    runs: tuple[str, ...] = ()


class ListProgress(_Document):
    """Progress as `list_migrations` names it."""

    total: Count = 0
    current: Count = 0
    percent: float = 0.0

    @classmethod
    def of(cls, current: int, total: int) -> ListProgress:
        """Progress with its percentage, rounded down so that 100 means all."""
        return cls(total=total, current=current, percent=_percentage(current, total))


class ListedMigration(_Document):
    """One migration of a list."""

    migration_id: str
    status: MigrationStatus
    created_at: Utc | None
    progress: ListProgress = ListProgress()


class BrokenFile(_Document):
    """A file of the migrations folder that cannot be read, and why."""

    path: str
    error: str


class MigrationList(_Document):
    """Migrations of a folder, one page.

    Args:
        total: migrations that the filter lets through, on all pages.
        broken: files that are no migrations; on every page.
    """

    migrations: tuple[ListedMigration, ...] = ()
    total: Count = 0
    limit: int = 10
    offset: int = 0
    broken: tuple[BrokenFile, ...] = ()


class Estimate(_Document):
    """What a migration will cost, as far as it can be told beforehand.

    Args:
        seconds: wall time of loading.
        requests: calls to both databases.
        units: read and write units, where a database charges by them.
    """

    seconds: float | None = None
    requests: int | None = None
    units: int | None = None


class PlanDocument(_Document):
    """What a migration will do.

    Args:
        records: records of the source.
        mapping: what becomes of each id kind, vector, field, index, metric and scope; with grade and reason.
        loss: how many of those rows have each grade.
    """

    migration_id: str
    generation: int
    digest: str
    source: EndpointDocument
    target: EndpointDocument
    records: Count
    partitions: Count
    mapping: tuple[LossRow, ...] = ()
    loss: LossCounts = LossCounts()
    estimate: Estimate = Estimate()


class TierResult(_Document):
    """What one tier of validation found.

    Args:
        name: count, ids, records or search.
        checked: records (for search: queries) that were compared.
        summary: one sentence; a sample states its confidence in it.
    """

    name: str
    passed: bool
    checked: Count
    mismatched: Count
    summary: str


class ValidationDocument(_Document):
    """Whether the target holds what the source holds.

    Args:
        full: everything was compared, not a sample.
        mismatches: Parquet file of the records that differ, if any do.
    """

    migration_id: str
    passed: bool
    full: bool
    at: Utc
    seconds: float
    tiers: tuple[TierResult, ...]
    mismatches: str | None = None


class RecordPlace(_Document):
    """A record on one side.

    Args:
        id: the id that it has there.
        payload: its fields, if it was found.
    """

    type: str
    collection: str
    id: str | None
    found: bool
    scope: str | None = None
    payload: dict[str, Any] | None = None


class LookupDocument(_Document):
    """Where a record is on both sides.

    Args:
        record_id: the id that was asked for.
        partition: the partition that moves it.
    """

    migration_id: str
    record_id: str
    source: RecordPlace
    target: RecordPlace
    partition: str | None = None


class ExportedScope(_Document):
    """One folder of an export."""

    scope: str | None
    folder: str
    files: Count
    records: Count


class ExportDocument(_Document):
    """A source that was written as Parquet."""

    migration_id: str
    to: str
    records: Count
    bytes: Count
    seconds: float
    scopes: tuple[ExportedScope, ...]


class DemoValidation(_Document):
    """The demo's proof: each tier by name, and all of them."""

    passed: bool
    tiers: dict[str, bool]


class DemoDocument(_Document):
    """What the demo did."""

    migration_id: str
    source: str
    target: str
    records_source: Count
    records_target: Count
    validation: DemoValidation
    seconds: float
    records_per_second: float
    home: str


def _percentage(part: int, whole: int) -> float:
    """A percentage with two decimals, rounded down so that 100 means all."""
    return part * 10_000 // whole / 100 if whole else 0.0
