"""Folders of Milvus Lite, which is a server of its own inside this process."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vectormigrate_dagster.databases.embedded import Engine, FolderBusy, is_locked
from vectormigrate_dagster.errors import DatabaseError

_LOCK_FILE = "LOCK"


def client_of(address: str, **settings: Any) -> Any:
    """Make a client of the server at `address` that keeps its errors out of the log."""
    from pymilvus import MilvusClient

    # Both log every failed call with its traceback; the caller gets the same as an exception.
    for name in ("pymilvus.decorators", "pymilvus.client.connection_manager", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MilvusClient(address, dedicated=True, **settings)


def _open_folder(path: Path) -> Any:
    from milvus_lite.server_manager import server_manager_instance

    logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._server").addFilter(_is_news)
    # Once more if it fails without a lock: the other process may have ended in between.
    for _ in range(2):
        address = server_manager_instance.start_and_get_uri(str(path))
        if address is not None:
            return client_of(address)
        if is_locked(path / _LOCK_FILE):
            raise FolderBusy
    raise DatabaseError(f"Milvus Lite cannot open folder '{path}'; is it damaged, or not writable?")


def _is_news(record: logging.LogRecord) -> bool:
    """Not that Milvus Lite lacks `AllocTimestamp`, which every client calls and does without."""
    return record.exc_info is None or record.exc_info[0] is not NotImplementedError


def _close_folder(path: Path, client: Any) -> None:
    from milvus_lite.server_manager import server_manager_instance

    client.close()
    # Closing the client alone keeps the folder's lock until this process ends.
    server_manager_instance.release_server(str(path))


ENGINE = Engine(title="Milvus Lite", proof="collections", lock_file=_LOCK_FILE, open=_open_folder, close=_close_folder)
