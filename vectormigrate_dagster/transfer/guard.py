"""What may watch a transfer page by page, so that it and a writing application do not cross."""

from __future__ import annotations

from typing import Protocol

from vectormigrate_dagster.model import Split


class PageGuard(Protocol):
    """Brackets each page: from before it is read until the target has acknowledged all of it."""

    def before_read(self) -> int:
        """Return the position from which the page must distrust itself; called before the page is read."""

    def after_ack(self, token: int, split: Split, *, last: bool) -> None:
        """Note that records of the page that was read after `token` are in the target.

        Called before the checkpoint of each batch of the page, so several times with one token; pages in the order
        in which they were read. Up to `Settings.max_pages` pages are between the two calls at any time.

        Args:
            token: what `before_read` returned.
            split: what is moved.
            last: this batch ends the page, so all of it is in the target.
        """


class NoGuard:
    """Guards nothing: for a source that nobody writes to."""

    def before_read(self) -> int:
        """Return 0."""
        return 0

    def after_ack(self, token: int, split: Split, *, last: bool) -> None:
        """Do nothing."""
