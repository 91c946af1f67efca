"""What may watch a transfer page by page, so that it and a writing application do not cross."""

from __future__ import annotations

from typing import Protocol

from vectormigrate_dagster.model import Split


class PageGuard(Protocol):
    """Brackets each page: from before it is read until the target has acknowledged it."""

    def before_read(self) -> int:
        """Return the position from which the page must distrust itself; called before the page is read."""

    def after_ack(self, token: int, split: Split) -> None:
        """Note that the page that was read after `token` is in the target; called before its checkpoint."""


class NoGuard:
    """Guards nothing: for a source that nobody writes to."""

    def before_read(self) -> int:
        """Return 0."""
        return 0

    def after_ack(self, token: int, split: Split) -> None:
        """Do nothing."""
