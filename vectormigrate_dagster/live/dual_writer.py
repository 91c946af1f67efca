"""What an application writes through while its collection moves, sync or async; it needs no Dagster.

The application passes the calls of its own clients. Each write goes to the side that is primary at that moment, and the
journal learns before and after which ids it was about; the other side is brought up to date from there.

    writer = DualWriter("sqlite:////srv/dagster/journal.db", "packages")
    writer.upsert([point.id], source=lambda: qdrant.upsert("packages", [point]), target=lambda: milvus.upsert(...))
    writer.delete([7], source=lambda: qdrant.delete("packages", [7]), target=lambda: milvus.delete("packages", [7]))
    reader = milvus if writer.read_target() == "target" else qdrant
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from vectormigrate_dagster.errors import NotSo, VectorMigrateError
from vectormigrate_dagster.live.group_commit import GroupCommit, PerProcess
from vectormigrate_dagster.live.journal import Admission, Control, Journal, JournalDatabase, Key, Side
from vectormigrate_dagster.live.journal.admissions import FROZEN_POLL_SECONDS, still_frozen
from vectormigrate_dagster.model import Id

__all__ = ["AsyncDualWriter", "DualWriter"]

T = TypeVar("T")

PATIENCE_SECONDS = 30.0
"""How long a write waits while writes are frozen for a cutover, which takes seconds."""

_LOG = logging.getLogger(__name__)


class _Writer:
    """What both kinds of writer know of the journal.

    Args:
        url: of the journal, as in `journal.url` of the migration file, with its password.
        migration: the migration's id.
        patience: seconds to wait while writes are frozen.
        refusals: what the application's clients raise when the database has answered that it did not, and will not,
            do what was asked, such as an error of a record. Its outcome is known, and nobody has to wait for it.

    Raises:
        NotFound: the journal knows no such migration; plan it first.
        StorageFailed: the journal cannot be opened.
    """

    def __init__(
        self,
        url: str,
        migration: str,
        *,
        patience: float = PATIENCE_SECONDS,
        refusals: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._database = JournalDatabase(url)
        self._journal = Journal(self._database, migration)
        self._groups = PerProcess(lambda: GroupCommit(self._journal))
        self._control = self._journal.control()
        self._looked_at = time.monotonic()
        self._patience = patience
        self._refusals = refusals

    @property
    def _group(self) -> GroupCommit:
        return self._groups()

    def read_target(self, *, max_age: float = 0.0) -> Side:
        """Which side to read: the one that is written to, "source" until the cutover.

        Args:
            max_age: seconds for which an earlier answer, or that to a write, will do.
        """
        if time.monotonic() - self._looked_at > max_age:
            self._remember(self._journal.control(), time.monotonic())
        return self._control.primary

    def target_id(self, id: Id, *, scope: str | None = None) -> Id:
        """The id that a record of the source has in the target, which `target=` calls need.

        Args:
            id: in the source.
            scope: where it is in the source.

        Raises:
            InvalidRecord: there can be no such record in the source, or in the target.
            NotSo: the plan does not say, or says it only for an id and its scope, or for a record.
        """
        from vectormigrate_dagster.live.target_ids import target_id_of

        return target_id_of(self._control, Key.of(id, self._control.id_kinds, scope))

    def _ask(self, ids: Sequence[Id], scope: str | None) -> tuple[list[Key], Future[Admission | None]]:
        keys = [Key.of(value, self._control.id_kinds, scope) for value in ids]
        return keys, self._group.ask(keys)

    def _chosen(self, admission: Admission, source: T, target: T | None) -> T:
        """The call for the side that is primary, if it may be made now; otherwise the write is known not to be sent.

        Raises:
            NotSo: there is none, because the application was not told how to write to the target.
            Unavailable: too much time has passed.
        """
        self._remember(admission.control, admission.began)
        call = source if admission.control.primary == "source" else target
        try:
            if call is None:
                raise NotSo(
                    f"'{self._journal.migration}' was switched, so writes go to the target now; "
                    "pass target= to DualWriter's upsert and delete"
                )
            admission.check()
        except VectorMigrateError:
            self._group.applied(admission)
            raise
        return call

    def _sent(self, admission: Admission, keys: Sequence[Key], began: float) -> None:
        """Look whether a write that is over took longer than the journal believes to be possible."""
        took, bound = time.monotonic() - began, admission.control.bounds.request
        if took > bound:
            _LOG.warning(
                "a write to '%s' took %.1f s, and journal.request_seconds is %g: give your client a deadline",
                self._journal.migration,
                took,
                bound,
            )
            try:
                self._journal.note(keys, kind="change")
            except VectorMigrateError:  # the answer of the write counts more for whoever waits for it
                _LOG.exception("'%s' may miss a change of %d ids", self._journal.migration, len(keys))

    def _still_frozen(self, end: float) -> None:
        if time.monotonic() > end:
            raise still_frozen(self._journal.migration, self._patience)

    def _remember(self, control: Control, looked_at: float) -> None:
        self._control, self._looked_at = control, looked_at


class DualWriter(_Writer):
    """Writes of an application during a migration; safe to use from several threads.

    What the application's own call raises is passed on, and its outcome counts as unknown: the journal looks at the ids
    again once the write can no longer happen. Give the client a deadline, and no more retries than fit into
    `journal.request_seconds` of the migration file.
    """

    def upsert(
        self,
        ids: Sequence[Id],
        *,
        source: Callable[[], T],
        target: Callable[[], T] | None = None,
        scope: str | None = None,
    ) -> T:
        """Insert or update records; return what the call returned.

        Args:
            ids: of all records that the call writes, as they are in the source.
            source: writes them to the source, and returns when that has acknowledged.
            target: writes them to the target; called in place of `source` after the cutover.
            scope: where they are in the source.

        Raises:
            Unavailable: writes are frozen for longer than `patience`, or this process was held up; nothing was sent.
            NotSo: the sides were switched, and there is no `target`.
            StorageFailed: the journal does not answer; nothing was sent.
            InvalidRecord: the source, or the journal, can hold no such id; nothing was sent.
        """
        return self._write(ids, scope, source, target)

    def delete(
        self,
        ids: Sequence[Id],
        *,
        source: Callable[[], T],
        target: Callable[[], T] | None = None,
        scope: str | None = None,
    ) -> T:
        """Delete records; as `upsert`."""
        return self._write(ids, scope, source, target)

    def close(self) -> None:
        """Tell the journal the rest, and give its connections back; may be called twice."""
        self._group.close()
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _write(
        self, ids: Sequence[Id], scope: str | None, source: Callable[[], T], target: Callable[[], T] | None
    ) -> T:
        keys, admission = self._admit(ids, scope)
        call = self._chosen(admission, source, target)
        began = time.monotonic()
        try:
            answer = call()
        except self._refusals:
            self._group.applied(admission)
            raise
        finally:
            self._sent(admission, keys, began)
        self._group.applied(admission)
        return answer

    def _admit(self, ids: Sequence[Id], scope: str | None) -> tuple[list[Key], Admission]:
        end = time.monotonic() + self._patience
        while True:
            keys, asked = self._ask(ids, scope)
            self._group.commit(asked)
            if (admission := asked.result()) is not None:
                return keys, admission
            self._still_frozen(end)
            time.sleep(FROZEN_POLL_SECONDS)


class AsyncDualWriter(_Writer):
    """`DualWriter` for asyncio: the application's calls are awaited, the journal is asked in a thread."""

    def __init__(
        self,
        url: str,
        migration: str,
        *,
        patience: float = PATIENCE_SECONDS,
        refusals: tuple[type[BaseException], ...] = (),
    ) -> None:
        super().__init__(url, migration, patience=patience, refusals=refusals)
        self._threads = PerProcess(lambda: ThreadPoolExecutor(1, thread_name_prefix="vectormigrate-journal"))

    async def upsert(
        self,
        ids: Sequence[Id],
        *,
        source: Callable[[], Awaitable[T]],
        target: Callable[[], Awaitable[T]] | None = None,
        scope: str | None = None,
    ) -> T:
        """Insert or update records; see `DualWriter.upsert`."""
        return await self._write(ids, scope, source, target)

    async def delete(
        self,
        ids: Sequence[Id],
        *,
        source: Callable[[], Awaitable[T]],
        target: Callable[[], Awaitable[T]] | None = None,
        scope: str | None = None,
    ) -> T:
        """Delete records; see `DualWriter.upsert`."""
        return await self._write(ids, scope, source, target)

    async def close(self) -> None:
        """Tell the journal the rest, and give its connections back; may be called twice."""
        await asyncio.to_thread(self._group.close)
        self._threads().shutdown()
        self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _write(
        self,
        ids: Sequence[Id],
        scope: str | None,
        source: Callable[[], Awaitable[T]],
        target: Callable[[], Awaitable[T]] | None,
    ) -> T:
        keys, admission = await self._admit(ids, scope)
        call = self._chosen(admission, source, target)
        began = time.monotonic()
        try:
            answer = await call()
        except self._refusals:
            self._group.applied(admission)
            raise
        finally:
            if time.monotonic() - began > admission.control.bounds.request:
                await asyncio.to_thread(self._sent, admission, keys, began)
        self._group.applied(admission)
        return answer

    async def _admit(self, ids: Sequence[Id], scope: str | None) -> tuple[list[Key], Admission]:
        end = time.monotonic() + self._patience
        while True:
            keys, asked = self._ask(ids, scope)
            self._threads().submit(self._group.commit, asked)
            try:
                admission = await asyncio.shield(asyncio.wrap_future(asked))
            except asyncio.CancelledError:
                asked.add_done_callback(self._not_sent)
                raise
            if admission is not None:
                return keys, admission
            self._still_frozen(end)
            await asyncio.sleep(FROZEN_POLL_SECONDS)

    def _not_sent(self, asked: Future[Admission | None]) -> None:
        """Close the intent of a write that was cancelled before it was sent."""
        if asked.exception() is None and (admission := asked.result()) is not None:
            self._group.applied(admission)
