"""Exclusive leases: one process at a time works on a plan, a partition or a target.

A lease is a file lock in the home, so the kernel frees it when its holder dies, however it dies. A home on a
shared file system serves one host at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from vectormigrate_dagster.defs.home import home_of
from vectormigrate_dagster.errors import LeaseHeld

MIGRATE = "migrate"
"""Held while a `migrate` command is at work, so that status knows it between two partitions."""

ROLLBACK = "rollback"
"""Held while a `rollback` command is at work, for the same reason."""

_PROBE_SECONDS = 1.0
"""Whoever takes a lease waits this long, so that a probe of `is_held` never looks like a holder."""


def run_lease(run_id: str) -> str:
    """What a run holds as long as its process is alive."""
    return f"run-{run_id}"


class Lease:
    """The right to work on one thing of one migration; held until `release` or the end of the process.

    Args:
        what: a partition key, "plan" or "target".
    """

    def __init__(self, instance: dg.DagsterInstance, migration_id: str, what: str) -> None:
        self.what = what
        self._name = f"'{what}' of migration '{migration_id}'"
        self._folder = home_of(instance) / "vectormigrate" / migration_id / "leases"
        self._path = self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', what)}.lock"

    @property
    def path(self) -> Path:
        """The lock file."""
        return self._path

    @cached_property
    def _lock(self) -> FileLock:
        # Made when it is needed: status asks of hundreds of leases, most of which nobody has ever taken.
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._path, thread_local=False)

    def acquire(self, timeout: float = _PROBE_SECONDS) -> None:
        """Take the lease, waiting up to `timeout` seconds.

        Raises:
            LeaseHeld: another process, or another run in this one, has it.
        """
        try:
            self._lock.acquire(timeout=timeout, poll_interval=0.02)
        except Timeout as error:
            raise LeaseHeld(
                f"{self._name} is being worked on by another process; wait for it, or end it with 'vectormigrate stop'"
            ) from error

    def release(self) -> None:
        """Give the lease back; nothing happens if it is not held."""
        self._lock.release(force=True)

    def is_held(self) -> bool:
        """Whether anybody holds the lease, asked by trying to take it for a moment."""
        if not self._path.exists():
            return False
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        self._lock.release(force=True)
        return False


@contextmanager
def held(lease: Lease, timeout: float = _PROBE_SECONDS) -> Iterator[None]:
    """Hold a lease for the length of a block."""
    lease.acquire(timeout)
    try:
        yield
    finally:
        lease.release()


@contextmanager
def numbered(instance: dg.DagsterInstance, migration_id: str, what: str, count: int) -> Iterator[int]:
    """Hold one of several like leases for the length of a block; its number is nobody else's meanwhile.

    Args:
        instance: Dagster's storage.
        migration_id: the migration.
        what: the leases are called that, a hyphen and a number.
        count: how many there are.

    Raises:
        LeaseHeld: all are taken.
    """
    for number in range(count):
        lease = Lease(instance, migration_id, f"{what}-{number}")
        try:
            lease.acquire(0 if number + 1 < count else _PROBE_SECONDS)
        except LeaseHeld:
            continue
        try:
            yield number
        finally:
            lease.release()
        return
    raise LeaseHeld(f"{count} processes work on '{what}' of migration '{migration_id}' already; wait for one of them")
