"""The state documents of a migration; `event_log` keeps the newest of each under a key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CONTROL = "control"
VALIDATION = "validation"
VALIDATION_ROUND = "validation-round"
CONTINUE = "continue"
LIVE = "live"
SINCE_LOAD = "since-load"
POLL = "poll"

Indexing = Literal["deferred", "building", "built"]
Phase = Literal["loading", "done", "failed", "lost", "stopped", "rolling_back", "rolled_back"]


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


class _Document(BaseModel):
    # A newer version may have written more than we know of.
    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime = Field(default_factory=now)


class PartitionState(_Document):
    """How far one partition is.

    Args:
        plan: digest of the plan it belongs to.
        run_id: the Dagster run that wrote this.
        attempt: how often work on the partition has begun.
        started_at: when work on the partition first began.
        resumed_from: the source id after which this run went on; None if it began at the beginning.
        after: the last source id below which everything is acknowledged by the target.
        loaded: the end of the split was reached.
        acknowledged: records written, over all runs.
        bytes: bytes of vectors written.
        skipped: records left alone because the target already had their id.
        refused, vanished: records not moved; listed in the migration's folder.
        seconds: time spent loading, over all runs.
        rate: records per second of this run.
        undone: records that a rollback has taken back, or found to be as they were before.
        left: records that it has left alone because somebody has changed them; listed in the migration's folder.
        undone_after: how far it is.
        error, exit_code: why it failed.
    """

    plan: str
    state: Phase
    run_id: str
    attempt: int = 1
    started_at: datetime = Field(default_factory=now)
    resumed_from: str | None = None
    after: str | None = None
    loaded: bool = False
    acknowledged: int = 0
    batches: int = 0
    bytes: int = 0
    skipped: int = 0
    refused: int = 0
    vanished: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    undone: int = 0
    left: int = 0
    undone_after: str | None = None
    error: str | None = None
    exit_code: int | None = None


class TargetState(_Document):
    """Whose the target collection is.

    `creating` is written before the collection is made, so that a collection found after a crash in between
    is known to be ours. That indexing is deferred is written before it is, too; see `defs.bulk`.

    Args:
        indexing: what is known of the target's indexes since a load began; None is as the database does it by itself.
        restore: settings of indexing that a load has put off, to be put back.
    """

    plan: str
    state: Literal["creating", "created", "existing"]
    records_before: int = 0
    indexing: Indexing | None = None
    restore: dict[str, Any] | None = None


def target_key(generation: int) -> str:
    """Under which key a generation's `TargetState` is kept."""
    return f"target-g{generation:04}"


class RollbackState(_Document):
    """How far the rollback of a generation is.

    `begun` is written before anything is taken back, and ends all loading by that plan; `abandoned` takes it back
    because a load had just begun.

    Args:
        dropped: the collection was deleted, because this migration had made it and nothing else was in it.
        remaining: records in a collection of ours that kept it from being dropped; listed in the migration's folder.
    """

    plan: str
    state: Literal["begun", "abandoned", "finished"]
    dropped: bool = False
    remaining: int = 0


def rollback_key(generation: int) -> str:
    """Under which key a generation's `RollbackState` is kept."""
    return f"rollback-g{generation:04}"


class PlanSummary(BaseModel):
    """What the state of a migration needs to know of its plan; reading the plan itself takes far longer.

    Args:
        keys: the partitions.
        changes: how many things of the source have each grade in the target.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    generation: int
    created_at: datetime
    source_records: int
    keys: tuple[str, ...]
    changes: dict[str, int]


class Control(_Document):
    """What people ask of running work."""

    stop_requested_at: datetime | None = None
    rate_limit: float | None = None
    rate_limit_set: bool = False


class LiveState(_Document):
    """How far a live migration is, as the journal told whoever looked last; the journal itself is the authority.

    Args:
        state: as in `live.journal.State`.
        primary: the side that the application writes to.
        epoch: raised by every change of state.
        lag_records: changes that are not carried over to the other side.
        lag_seconds: age of the oldest of them; 0 if there is none.
        open: those of them whose write is not known to be over.
        unlike: records that catching up could not make alike on both sides.
        compared, parts: while somebody compares both sides: how many parts are compared, of how many; 0 otherwise.
        blocked_by: what keeps the sides from being switched; empty if nothing does.
        changed_by, reason: who changed the state last, and why.
    """

    plan: str
    state: str
    primary: Literal["source", "target"]
    epoch: int
    lag_records: int = 0
    lag_seconds: float = 0.0
    open: int = 0
    compared: int = 0
    parts: int = 0
    unlike: int = 0
    blocked_by: tuple[str, ...] = ()
    changed_by: str = ""
    reason: str = ""


class SinceLoad(_Document):
    """How many more records cannot be moved than the load has counted, as catching up has found.

    Args:
        refused, vanished: as of `PartitionState`; less than 0 where records were mended or deleted since.
    """

    plan: str
    refused: int = 0
    vanished: int = 0


class PollState(_Document):
    """How far polling a field for changes has come; see `live.polling.Watermark`."""

    field: str
    unit: Literal["number", "time"]
    floor: int | float
    high: int | float


class ValidationState(_Document):
    """The newest validation of the whole migration.

    Args:
        tier: how much was looked at: "full", "sample", or "repair", which is the records that a validation had listed.
        mismatches: Parquet file, or folder of them, with every record that was found wrong and not repaired since; None
            if there is none. A sample leaves it as it is.
        seed: what the random choices of the validation began with.
        digest: of the report, which says what was checked, when, and against which plan.
    """

    plan: str
    passed: bool
    tier: str
    checked: int
    mismatched: int
    mismatches: str | None = None
    seed: int | None = None
    digest: str | None = None


class ValidationRound(_Document):
    """A full validation that is done partition by partition.

    It is concluded once every partition of its plan has been validated in it. Until then it is gone on with, if it is
    not too old.

    Args:
        name: told from others of the same plan; part of the folder where it lists what is wrong.
        at: when it began.
        seed: what its random choices begin with.
    """

    plan: str
    name: str
    seed: int = 0
    concluded_at: datetime | None = None


class PartitionValidation(_Document):
    """What a full validation found in one partition.

    Args:
        round: the `ValidationRound` that it belongs to.
        outcome: an `Outcome` of the validation room, as JSON.
        mismatches: Parquet file of what is wrong; None if nothing is.
        position: the journal's before anything was read; None if there is no journal.
    """

    plan: str
    round: str
    passed: bool
    outcome: dict[str, Any]
    mismatches: str | None = None
    position: int | None = None


def partition_validation_key(key: str) -> str:
    """Under which key a partition's `PartitionValidation` is kept."""
    return f"validated-{key}"


class Continue(_Document):
    """The plan was launched to be followed by its load; the sensor `<id>_continue` reads it.

    Args:
        principal: who launched it; the runs that follow carry it on.
    """

    plan: str
    principal: str | None = None
