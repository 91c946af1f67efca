"""What the tools do that change something."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vectormigrate_dagster.services import launching
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import ActionDocument
from vectormigrate_dagster.services.webserver import Webserver
from vectormigrate_dagster.sidecar.confirmations import Confirmations
from vectormigrate_dagster.sidecar.inputs import ConfirmedInput, CutoverInput, MigrationInput, ValidateInput
from vectormigrate_dagster.sidecar.principal import Principal


class Actions:
    """Wishes to launch or end runs, in the name of a caller.

    Args:
        context: the folders to work in.
        webserver: where runs are launched.
    """

    def __init__(self, context: Context, webserver: Webserver) -> None:
        self._context = context
        self._webserver = webserver
        self._confirmations = Confirmations()

    def start(self, given: MigrationInput, caller: Principal) -> ActionDocument:
        """Plan if need be, and load what is not loaded."""
        return launching.start(self._context, self._webserver, given.migration_id, principal=caller.masked)

    def stop(self, given: MigrationInput, caller: Principal) -> ActionDocument:
        """End running work at its next batch."""
        return launching.stop(self._context, self._webserver, given.migration_id, principal=caller.masked)

    def validate(self, given: ValidateInput, caller: Principal) -> ActionDocument:
        """Compare source and target."""
        return launching.validate(
            self._context,
            self._webserver,
            given.migration_id,
            principal=caller.masked,
            full=given.full,
            sample_size=given.sample_size,
            seed=given.seed,
        )

    def rollback(self, given: ConfirmedInput, caller: Principal) -> ActionDocument:
        """Say what a rollback would do, or with that answer's token do it."""
        work = partial(launching.rollback, self._context, self._webserver, given.migration_id, principal=caller.masked)
        return self._in_two_steps(given, caller, "rollback", work, lambda shown: work(plan=shown.plan))

    def cutover(self, given: CutoverInput, caller: Principal) -> ActionDocument:
        """Say what moving the primary would do, or with that answer's token do it."""
        work = partial(
            launching.cutover,
            self._context,
            self._webserver,
            given.migration_id,
            given.move,
            principal=caller.masked,
            reason=given.reason,
        )
        return self._in_two_steps(given, caller, given.move, work, lambda _: work())

    def _in_two_steps(
        self,
        given: ConfirmedInput,
        caller: Principal,
        what: str,
        show: Callable[..., ActionDocument],
        do: Callable[[ActionDocument], ActionDocument],
    ) -> ActionDocument:
        """Do what was shown before to the same caller and confirmed; else show it.

        Args:
            what: the thing that is done.
            show: says what would be done, given `dry_run`.
            do: does what was shown.
        """
        shown = show(dry_run=True)
        if shown.outcome != "to_confirm":
            return shown
        bound = (what, given.migration_id, str(shown.plan), caller.masked)
        if given.confirmation_token is not None:
            self._confirmations.redeem(given.confirmation_token, *bound)
            return do(shown)
        if shown.blocked_by:
            return shown
        message = "nothing was done yet; call again with this confirmation_token to do it"
        return shown.model_copy(update={"message": message, "confirmation": self._confirmations.make(*bound)})
