"""Folders of embedded Qdrant, which is a part of its client."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from vectormigrate_dagster.databases.embedded import Engine, FolderBusy, is_locked

_LOCK_FILE = ".lock"


class large_folder_is_no_news(warnings.catch_warnings):  # noqa: N801  # used as a with statement
    """Without the advice to use a server for more than 20,000 points: that is often where we are going."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message="Local mode is not recommended", category=UserWarning)


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
