"""What became of a wish to start, stop, validate, roll back or cut over."""

from __future__ import annotations

from typing import Literal

from vectormigrate_dagster.services.models.common import Document, Utc

Action = Literal["start", "stop", "validate", "rollback", "cutover"]


class Confirmation(Document):
    """What is to be sent to have the thing done: good for one call, by the same caller, until `expires_at`."""

    token: str
    expires_at: Utc


class ActionDocument(Document):
    """What a wish led to; what comes of it is told by the status of the migration.

    Args:
        outcome: "launched" runs; "already_running", so that nothing was launched; "nothing_to_do"; "stopping", which
            is done at the next batch; "to_confirm", and nothing was done yet.
        message: what happens now and what to do next.
        plan: digest of the plan that is worked by, if there is one yet.
        runs: Dagster runs that were launched, or that are at it already.
        backfill: the Dagster backfill that launches the runs.
        steps: what would be done.
        blocked_by: why it would be refused.
    """

    migration_id: str
    action: Action
    outcome: Literal["launched", "already_running", "nothing_to_do", "stopping", "to_confirm"]
    message: str
    plan: str | None = None
    runs: tuple[str, ...] = ()
    backfill: str | None = None
    steps: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    confirmation: Confirmation | None = None
