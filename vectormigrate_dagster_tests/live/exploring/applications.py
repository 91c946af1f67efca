"""Applications that write through the real writers, the sync one and the async one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from vectormigrate_dagster.errors import DatabaseError, StorageFailed, Unavailable
from vectormigrate_dagster.live.dual_writer import AsyncDualWriter, DualWriter
from vectormigrate_dagster_tests.live.exploring.databases import MIGRATION, SteppedDatabase

Write = tuple[int, int | None]
"""An id and its value; None deletes."""


class Application:
    """Writes values one after the other; what was not sent it tries again, also after a crash.

    Args:
        source, target: where it may write.
        writes: what.
    """

    def __init__(self, source: SteppedDatabase, target: SteppedDatabase, writes: Sequence[Write]) -> None:
        self.left = list(writes)
        """What was not sent; once it is, it is not one of them any more, whatever becomes of it."""
        self._source = source
        self._target = target
        self._tries = 3 * len(writes)

    def run(self) -> None:
        """Write through `DualWriter`."""

        def put(side: SteppedDatabase) -> None:
            side.put_value(*self.left.pop(0))

        source, target = partial(put, self._source), partial(put, self._target)
        with DualWriter("sqlite://", MIGRATION, patience=0.0) as writer:
            for _ in range(self._tries):
                if self.left:
                    key, value = self.left[0]
                    write = writer.delete if value is None else writer.upsert
                    with suppress(DatabaseError, StorageFailed):
                        write([key], source=source, target=target)

    def run_async(self) -> None:
        """Write through `AsyncDualWriter`, and cancel what is not answered in time."""
        asyncio.run(self._write_async())

    async def _write_async(self) -> None:
        async def put(side: SteppedDatabase) -> None:
            try:
                side.put_value(*self.left.pop(0))
            except Unavailable as error:
                raise asyncio.CancelledError from error

        source, target = partial(put, self._source), partial(put, self._target)
        async with AsyncDualWriter("sqlite://", MIGRATION, patience=0.0) as writer:
            for _ in range(self._tries):
                if self.left:
                    key, value = self.left[0]
                    write = writer.delete if value is None else writer.upsert
                    with suppress(DatabaseError, StorageFailed, asyncio.CancelledError):
                        await write([key], source=source, target=target)
