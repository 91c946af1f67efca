"""What was written and cannot be read yet: Pinecone acknowledges first and indexes later.

A write tells its position in the log of its namespace, a search the position up to which it has seen; lists and fetches
say nothing: https://docs.pinecone.io/guides/index-data/check-data-freshness. A server that tells no positions, and a
deletion through the vectors API, of which the client keeps the answer to itself, are known by their last ids: those
written must be there when they are fetched, those deleted must not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

_REMEMBERED = 20


@dataclass
class Unseen:
    """Writes to one namespace that nobody has seen yet.

    Args:
        position: the highest log position of them.
        written, deleted: ids of the last ones.
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
            unseen.written = [*(i for i in unseen.written if i not in gone), *written][-_REMEMBERED:]
            unseen.deleted = [*(i for i in unseen.deleted if i not in new), *deleted][-_REMEMBERED:]

    @property
    def namespaces(self) -> list[str]:
        """Where there are writes that nobody has seen."""
        with self._lock:
            return list(self._unseen)

    def take(self, namespace: str) -> Unseen:
        """What is remembered of a namespace, which is forgotten with this."""
        with self._lock:
            return self._unseen.pop(namespace, Unseen())

    def put_back(self, namespace: str, unseen: Unseen) -> None:
        """Remember what was taken and not seen; what was noted in between is newer."""
        newer = self.take(namespace)
        for each in (unseen, newer):
            self.note(namespace, each.position, written=each.written, deleted=each.deleted)
