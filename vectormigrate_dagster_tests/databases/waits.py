"""The waits of a database, of which somebody has had enough."""

from __future__ import annotations

from vectormigrate_dagster.errors import Stopped


class Waits:
    """How a database waits, without waiting: `allowed` times, then the work is to end."""

    def __init__(self, allowed: int) -> None:
        self.seconds: list[float] = []
        self._allowed = allowed

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) > self._allowed:
            raise Stopped("the work was asked to end")
