"""What Dagster's storage says when it cannot be read or written, as an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import OperationalError

from vectormigrate_dagster.errors import StorageFailed


@contextmanager
def storage() -> Iterator[None]:
    """Turn what Dagster's storage says into an error of ours.

    Raises:
        StorageFailed: it cannot be reached, read or written.
    """
    try:
        yield
    except Exception as error:
        # dagster_postgres hides behind an exception of its own that it has tried several times.
        found = error if isinstance(error, OperationalError) else error.__cause__
        if not isinstance(found, OperationalError):
            raise
        raise StorageFailed(
            f"Dagster's storage refused to be read or written: {found.orig}; "
            "make room or mend it, then run the same command again: it goes on where it stopped"
        ) from error
