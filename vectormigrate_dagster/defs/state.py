"""The state documents of a migration; `event_log` keeps the newest of each under a key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CONTROL = "control"
VALIDATION = "validation"
CONTINUE = "continue"

Phase = Literal["loading", "done", "failed", "lost", "stopped"]


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
    error: str | None = None
    exit_code: int | None = None


class TargetState(_Document):
    """Whose the target collection is.

    `creating` is written before the collection is made, so that a collection found after a crash in between
    is known to be ours.
    """

    plan: str
    state: Literal["creating", "created", "existing"]
    records_before: int = 0


def target_key(generation: int) -> str:
    """Under which key a generation's `TargetState` is kept."""
    return f"target-g{generation:04}"


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


class ValidationState(_Document):
    """The newest validation of the whole migration."""

    plan: str
    passed: bool
    tier: str
    checked: int
    mismatched: int


class Continue(_Document):
    """The plan was launched to be followed by its load; the sensor `<id>_continue` reads it."""

    plan: str
