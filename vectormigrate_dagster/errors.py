"""Every error this project raises, as one tree.

::

    VectorMigrateError                what any caller may catch
    ├── ConfigurationError            a migration file, flag or environment variable is wrong        exit 2
    │   ├── MissingSecret             an environment variable that the file names is not set
    │   ├── NotPermitted              the caller's key does not allow it
    │   ├── PlanRefused               the plan holds a change that is refused or not allowed
    │   ├── TargetNotEmpty            the target holds records and `on_conflict` is `fail`
    │   └── UnknownMigration          there is no migration file of that name
    ├── NotSo                         what was asked about is not so                                 exit 1
    │   ├── ValidationFailed          source and target differ
    │   ├── PlanOutdated              the stored plan does not fit (no plan, other key, other schema)
    │   └── LeaseHeld                 another process is at work on the same thing
    ├── DatabaseError                 a database could not be reached or refused us; resumable       exit 3
    │   ├── Throttled                 it asks us to slow down                        transient
    │   ├── Unavailable               it does not answer, or its folder is in use    transient
    │   ├── AuthenticationFailed      it does not accept the key
    │   ├── NotFound                  a collection, scope or field does not exist
    │   ├── InvalidRecord             it refuses these records, and says why
    │   ├── SchemaMismatch            it cannot hold, or does not hold, that schema
    │   └── BrokenScan                it broke its own order or count; data would be lost
    ├── StorageFailed                 our own disk or Dagster's storage refused a write; resumable   exit 3
    ├── WorkerLost                    a worker process of ours died again and again; resumable       exit 3
    └── Stopped                       asked to stop; everything acknowledged is recorded             exit 130

A message names the thing in quotes, says what was found and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AuthenticationFailed",
    "BrokenScan",
    "ConfigurationError",
    "DatabaseError",
    "InvalidRecord",
    "LeaseHeld",
    "MissingSecret",
    "NotFound",
    "NotPermitted",
    "NotSo",
    "PlanOutdated",
    "PlanRefused",
    "SchemaMismatch",
    "Stopped",
    "StorageFailed",
    "TargetNotEmpty",
    "Throttled",
    "Unavailable",
    "UnknownMigration",
    "ValidationFailed",
    "VectorMigrateError",
    "WorkerLost",
]


class VectorMigrateError(Exception):
    """Anything that this project says went wrong."""

    exit_code: int = 1


class ConfigurationError(VectorMigrateError, ValueError):
    """A migration file, a flag or an environment variable is wrong."""

    exit_code = 2


class MissingSecret(ConfigurationError):
    """An environment variable that the migration file names is not set."""


class NotPermitted(ConfigurationError):
    """The caller's key does not allow what was asked."""


class PlanRefused(ConfigurationError):
    """The target cannot hold something, and the owner has not allowed the loss."""


class TargetNotEmpty(ConfigurationError):
    """The target holds records that this migration did not write."""


class UnknownMigration(ConfigurationError):
    """There is no migration file of that name."""


class NotSo(VectorMigrateError):
    """What was asked about is not so."""


class ValidationFailed(NotSo):
    """Source and target differ."""


class PlanOutdated(NotSo):
    """There is no stored plan for this, or the stored one no longer fits."""


class LeaseHeld(NotSo):
    """Another process is at work on the same thing."""


class DatabaseError(VectorMigrateError):
    """A database could not be reached, or refused us.

    `transient` says that the same call may succeed later; `repeated`, that it was made as often as it may be.
    """

    exit_code = 3
    transient: bool = False
    repeated: bool = False


class Throttled(DatabaseError):
    """The database asks us to slow down.

    Args:
        retry_after: seconds that the database asks us to wait, if it said so.
    """

    transient = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(DatabaseError, ConnectionError):
    """The database does not answer, or its folder is in use by another process."""

    transient = True


class AuthenticationFailed(DatabaseError, PermissionError):
    """The database does not accept the key."""


class NotFound(DatabaseError, LookupError):
    """A collection, scope or field does not exist."""


class InvalidRecord(DatabaseError, ValueError):
    """The database refuses records and says why.

    Args:
        ids: the records at fault as text; empty if the database named none.
        reason: what the database said.
    """

    def __init__(self, reason: str, *, ids: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ids = tuple(ids)


class SchemaMismatch(DatabaseError):
    """A collection does not have the schema that the plan or the operation needs."""

    exit_code = 2


class BrokenScan(DatabaseError):
    """A server broke the order or the count that a complete scan relies on."""


class StorageFailed(VectorMigrateError, OSError):
    """Our own disk or Dagster's storage refused a write (full, read-only)."""

    exit_code = 3


class WorkerLost(VectorMigrateError):
    """A worker process died again and again at the same work."""

    exit_code = 3


class Stopped(VectorMigrateError):
    """Work ended at a batch boundary because it was asked to; it can be resumed."""

    exit_code = 130
