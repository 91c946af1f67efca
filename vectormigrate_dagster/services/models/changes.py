"""What became of changes that an application made during a migration."""

from __future__ import annotations

from typing import Literal

from vectormigrate_dagster.services.models.common import Count, Document
from vectormigrate_dagster.services.models.standing import LiveStatus


class ChangesDocument(Document):
    """Changed ids that were noted in the journal; catch-up carries them over.

    Args:
        noted: ids that were noted, each once.
    """

    migration_id: str
    noted: Count
    live: LiveStatus


class PollDocument(Document):
    """What a look at a field, or at everything, has found.

    Args:
        way: "field" looks for changes by a field that only grows; "sweep" compares every record.
        read: records of the source that were read; a source that can leaves out those with a number that is too low.
        noted: records that catch-up is to look at again.
        without: of those read, records whose field says nothing, or for a sweep those that say of no record that they
            are its copy; polling never sees them change.
        began: nothing was moved yet, so this poll has only found where the next one begins.
        limits: what was read, and what this way cannot see, for people.
    """

    migration_id: str
    way: Literal["field", "sweep"]
    read: Count
    noted: Count
    without: Count = 0
    began: bool = False
    limits: str
    live: LiveStatus


class UnsettledRecord(Document):
    """A record that is not alike on both sides although it was looked at."""

    id: str
    scope: str | None = None
    outcome: str
    reason: str


class CatchUpDocument(Document):
    """What catching up has done.

    Args:
        carried: changes that were carried over.
        records: how many records became what.
        unsettled: records that the other side did not take, with the reason; the first of them.
        unlike_file: lists all records that are not alike on both sides, with the reasons; null if there are none.
    """

    migration_id: str
    carried: Count
    records: dict[str, int]
    unsettled: tuple[UnsettledRecord, ...] = ()
    unlike_file: str | None = None
    seconds: float
    live: LiveStatus
