"""Move one split: read, map, write, and know what was written. Knows nothing of Dagster."""

from vectormigrate_dagster.transfer.guard import SplitGuard, WriteGuard
from vectormigrate_dagster.transfer.limits import BatchSize, Concurrency
from vectormigrate_dagster.transfer.mapper import Mapped, Mapper
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.pipeline import Checkpoint, Settings, transfer_split
from vectormigrate_dagster.transfer.rate import RateLimiter
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Circuit, Interrupt, Retry, Throttle
from vectormigrate_dagster.transfer.writer import OnConflict

__all__ = [
    "BatchSize",
    "Checkpoint",
    "Circuit",
    "Concurrency",
    "Interrupt",
    "Mapped",
    "Mapper",
    "OnConflict",
    "OwnershipLog",
    "RateLimiter",
    "Retry",
    "Settings",
    "SplitGuard",
    "Throttle",
    "WriteGuard",
    "read_split",
    "transfer_split",
]
