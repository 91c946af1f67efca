"""Folders of embedded Qdrant, which is a part of its client."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vectormigrate_dagster.databases.embedded import Engine, FolderBusy, is_locked

_LOCK_FILE = ".lock"


class large_folder_is_no_news(warnings.catch_warnings):  # noqa: N801  # used as a with statement
    """Without the advice to use a server for more than 20,000 points: that is often where we are going."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="Local mode is not recommended", category=UserWarning)


@contextmanager
def vectors_kept(client: Any, collection: str) -> Iterator[None]:
    """Undo what a search in the embedded mode does to vectors that are read later.

    It normalises the vectors of a cosine collection in place, which moves the last bit of those that are of
    unit length already (qdrant_client/local/distances.py, cosine_similarity, 1.20).
    """
    searched = client._client.collections.get(collection)
    kept = {} if searched is None else {name: rows.copy() for name, rows in searched.vectors.items()}
    try:
        yield
    finally:
        if searched is not None:
            searched.vectors.update(kept)


def _open_folder(path: Path) -> Any:
    from qdrant_client import QdrantClient

    # The client reads every collection before it asks for the lock; ask first.
    if is_locked(path / _LOCK_FILE):
        raise FolderBusy
    try:
        with large_folder_is_no_news():
            return QdrantClient(path=str(path), force_disable_check_same_thread=True)
    except RuntimeError as error:
        if "already accessed by another instance" in str(error):
            raise FolderBusy from error
        raise


ENGINE = Engine(
    title="Qdrant",
    proof="meta.json",
    lock_file=_LOCK_FILE,
    open=_open_folder,
    close=lambda path, client: client.close(),  # noqa: ARG005
)
