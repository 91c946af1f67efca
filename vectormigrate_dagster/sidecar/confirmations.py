"""Confirmation of what cannot be taken back: a token from the first call makes the second one count."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.services.models import Confirmation

SECONDS = 300.0
"""How long a token is good for."""
_KEPT = 1000
"""Tokens that are out at a time; the oldest is forgotten."""


class Confirmations:
    """Tokens that are out; each is good for one call, and for exactly what it was made for.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._out: OrderedDict[str, tuple[tuple[str, ...], float]] = OrderedDict()

    def make(self, *what: str) -> Confirmation:
        """A token for something: the tool, the migration, its plan and the caller."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._out[_digest(token)] = (what, self._clock() + SECONDS)
            while len(self._out) > _KEPT:
                self._out.popitem(last=False)
        return Confirmation(token=token, expires_at=datetime.now(UTC) + timedelta(seconds=SECONDS))

    def redeem(self, token: str, *what: str) -> None:
        """Use a token up.

        Raises:
            NotSo: it is unknown, was used, is too old, or was made for something else.
        """
        with self._lock:
            made_for, until = self._out.pop(_digest(token), ((), 0.0))
        if made_for != what or self._clock() >= until:
            raise NotSo(
                "this confirmation token is not valid for this call: it was used, is older than "
                f"{SECONDS / 60:.0f} minutes, or was made for another tool, migration, plan or caller; call once more "
                "without it, read what would be done, and use the new one"
            )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
