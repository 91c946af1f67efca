"""Where migrations stand: the documents of `status` and of the list."""

from __future__ import annotations

from typing import Literal

from vectormigrate_dagster.defs.state import Indexing
from vectormigrate_dagster.services.models.common import Count, Document, EndpointDocument, LossCounts, Utc

MigrationStatus = Literal["not_started", "planned", "in_progress", "completed", "failed", "stopped", "rolled_back"]


class Progress(Document):
    """How far a migration is."""

    total_records: Count = 0
    migrated_records: Count = 0
    percentage: float = 0.0

    @classmethod
    def of(cls, migrated: int, total: int) -> Progress:
        """Progress with its percentage, rounded down so that 100 means all."""
        return cls(total_records=total, migrated_records=migrated, percentage=_percentage(migrated, total))


class PartitionCounts(Document):
    """How many partitions there are, and in which state."""

    total: Count = 0
    done: Count = 0
    failed: Count = 0
    running: Count = 0


class ValidationSummary(Document):
    """The newest validation of the whole migration; all null if there was none."""

    passed: bool | None = None
    tier: str | None = None
    checked: int | None = None
    mismatched: int | None = None
    at: Utc | None = None


class LiveStatus(Document):
    """How far the other side is behind the application's changes, when somebody looked last; null if nobody has.

    Args:
        state: planned, backfilling, catching_up, verifying, ready, frozen, switched, reversed or completed.
        primary: the side that the application writes to.
        lag_records: changes that are not carried over to the other side.
        lag_seconds: age of the oldest of them then.
        open: those of them whose write is not known to be over.
        unlike: records that catching up could not make alike on both sides; listed with their reasons in the home.
        compared, parts: while somebody compares both sides: how many parts are compared, of how many; 0 otherwise.
        blocked_by: what keeps the sides from being switched.
        changed_by, reason: who changed the state last, and why.
        at: when somebody looked.
    """

    state: str | None = None
    primary: str | None = None
    epoch: int | None = None
    lag_records: int | None = None
    lag_seconds: float | None = None
    open: int | None = None
    unlike: int | None = None
    compared: int = 0
    parts: int = 0
    can_cut_over: bool = False
    blocked_by: tuple[str, ...] = ()
    changed_by: str | None = None
    reason: str | None = None
    at: Utc | None = None


class Status(Document):
    """Where a migration stands.

    Args:
        phase: what is being done or comes next, in one word.
        rate_per_second: records per second of running work; null while nothing runs.
        eta_seconds: time left at that rate.
        skipped: records left alone because the target already had their id.
        refused: records that cannot be moved, as whoever looked at them last has found, the load or catching up; listed
            with their reasons in the home.
        vanished: records that the source listed and could no longer give, and that nobody has looked at since.
        indexing: of the target since a load began: put off until it ends, being built, built; null where nothing is
            known.
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
    indexing: Indexing | None = None
    loss: LossCounts = LossCounts()
    validation: ValidationSummary = ValidationSummary()
    live: LiveStatus = LiveStatus()
    last_error: str | None = None
    stale_seconds: float | None = None
    runs: tuple[str, ...] = ()


class ListProgress(Document):
    """Progress as `list_migrations` names it."""

    total: Count = 0
    current: Count = 0
    percent: float = 0.0

    @classmethod
    def of(cls, current: int, total: int) -> ListProgress:
        """Progress with its percentage, rounded down so that 100 means all."""
        return cls(total=total, current=current, percent=_percentage(current, total))


class ListedMigration(Document):
    """One migration of a list."""

    migration_id: str
    status: MigrationStatus
    created_at: Utc | None
    progress: ListProgress = ListProgress()


class BrokenFile(Document):
    """A file of the migrations folder that cannot be read, and why."""

    path: str
    error: str


class MigrationList(Document):
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


def _percentage(part: int, whole: int) -> float:
    """A percentage with two decimals, rounded down so that 100 means all."""
    return part * 10_000 // whole / 100 if whole else 0.0
