"""What became of a cutover, of the way back, or of the end of a live migration."""

from __future__ import annotations

from typing import Literal

from vectormigrate_dagster.services.models.common import Document
from vectormigrate_dagster.services.models.standing import LiveStatus


class CutoverStep(Document):
    """One step as it would be made now.

    Args:
        does: what, for people.
        done: it is made, or there is nothing to be done.
        blocked_by: what is in the way of it.
    """

    does: str
    done: bool
    blocked_by: tuple[str, ...] = ()


class CutoverDocument(Document):
    """What a cutover, a reverse or a completion did, or would do.

    Args:
        dry_run: nothing was done.
        done: it is so, whoever did it.
        blocked_by: what is in the way, and what to do; empty if nothing is.
        steps: what would be done, of a dry run.
        live: how the migration stands.
    """

    migration_id: str
    action: Literal["cutover", "reverse", "complete"]
    dry_run: bool
    done: bool
    blocked_by: tuple[str, ...] = ()
    steps: tuple[CutoverStep, ...] = ()
    seconds: float
    live: LiveStatus
