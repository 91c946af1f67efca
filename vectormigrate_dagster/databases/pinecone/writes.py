"""What was written and cannot be read yet: Pinecone acknowledges first and indexes later.

A write tells its position in the log of its namespace, a search the position up to which it has seen; lists and fetches
say nothing: https://docs.pinecone.io/guides/index-data/check-data-freshness. A server that tells no positions, and a
deletion through the vectors API, of which the client keeps the answer to itself, are known by their last ids: those
written must be there when they are fetched, those deleted must not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

_REMEMBERED = 20
"""Requests whose last ids are remembered."""


@dataclass
class Unseen:
    """Writes to one namespace that nobody has seen yet.

    Args:
        position: the highest log position of them.
        written, deleted: an id of each of the last ones.
    """

    position: int | None = None
    written: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


class Writes:
    """Remembers writes until they were seen; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unseen: dict[str, Unseen] = {}

    def note(self, namespace: str, position: int | None, *, written: list[str], deleted: list[str]) -> None:
        """Remember a write that was acknowledged."""
        with self._lock:
            unseen = self._unseen.setdefault(namespace, Unseen())
            if position is not None:
                unseen.position = max(position, unseen.position or position)
            gone, new = set(deleted), set(written)
            unseen.written = [*(i for i in unseen.written if i not in gone), *written[-1:]][-_REMEMBERED:]
            unseen.deleted = [*(i for i in unseen.deleted if i not in new), *deleted[-1:]][-_REMEMBERED:]

    @property
    def namespaces(self) -> list[str]:
        """Where there are writes that nobody has seen."""
        with self._lock:
            return list(self._unseen)

    def unseen(self, namespace: str) -> Unseen:
        """What is remembered of a namespace."""
        with self._lock:
            return replace(self._unseen.get(namespace, Unseen()))

    def seen(self, namespace: str, what: Unseen) -> None:
        """Forget what was seen; what was noted in between is newer, and stays."""
        with self._lock:
            left = self._unseen.pop(namespace, Unseen())
            position = left.position if left.position is not None and left.position > (what.position or 0) else None
            written = [value for value in left.written if value not in what.written]
            deleted = [value for value in left.deleted if value not in what.deleted]
            if position is not None or written or deleted:
                self._unseen[namespace] = Unseen(position, written, deleted)
