"""What has to be in a Milvus server's memory while it is read, and what is put back afterwards."""

from __future__ import annotations

import threading
import time
from typing import Any

from vectormigrate_dagster.databases.base import Sleep
from vectormigrate_dagster.errors import Unavailable

_POLL_SECONDS = 0.1
STALLED_SECONDS = 300.0
"""A load without progress is given up after this; progress counts segments, and one may be 1 GB on slow storage."""


class Loading:
    """One collection's place in memory; it is left as it was found. Safe to use from several threads.

    A server reads only what is loaded, and says nothing of partitions that are not: a count of a collection of which
    one partition is loaded is that partition's count (seen on 2.3.5).
    """

    def __init__(self, collection: str, timeout: float) -> None:
        self._collection = collection
        self._timeout = timeout
        self._lock = threading.Lock()
        self._checked = False
        self._loaded_all = False
        self._loaded_partitions: set[str] = set()

    def ensure(self, client: Any, sleep: Sleep = time.sleep) -> None:
        """Load what is not loaded and wait for it by `sleep`; asks once, until `check_again`.

        Raises:
            Unavailable: it makes no progress, or was released again meanwhile.
        """
        with self._lock:
            if not self._checked:
                self._load(client, sleep)
                self._checked = True

    def still_loaded(self, client: Any, partition: str | None = None) -> bool:
        """Whether all of it, or of one partition, is in memory at this moment; the next `ensure` loads what is not."""
        with self._lock:
            if partition is None:
                there = self._state(client) == "Loaded" and not self._missing_partitions(client)
                self._checked = there
            else:
                there = self._state(client, partition_name=partition) == "Loaded"
                self._checked = self._checked and there
            return there

    def check_again(self) -> None:
        """Look at it again before the next read: somebody may have released it."""
        self._checked = False

    def put_back(self, client: Any) -> None:
        """Release what `ensure` has loaded; it stays owed until the server has done so."""
        with self._lock:
            if self._loaded_all:
                client.release_collection(self._collection, timeout=self._timeout)
            elif self._loaded_partitions:
                client.release_partitions(self._collection, sorted(self._loaded_partitions), timeout=self._timeout)
            self._loaded_all, self._loaded_partitions, self._checked = False, set(), False

    @property
    def owes(self) -> bool:
        """Whether there is something to put back."""
        return self._loaded_all or bool(self._loaded_partitions)

    def _load(self, client: Any, sleep: Sleep) -> None:
        state = self._state(client)
        if state != "Loaded":
            # Whoever else is loading it at this moment keeps it; what is not there yet is not ours to release.
            self._loaded_all = self._loaded_all or state == "NotLoad"
            client.load_collection(self._collection, timeout=self._timeout, _async=True)
            self._wait(client, sleep)
        elif missing := self._missing_partitions(client):
            self._loaded_partitions.update(missing)
            client.load_partitions(self._collection, missing, timeout=self._timeout, _async=True, sync=False)
            for partition in missing:
                self._wait(client, sleep, partition_name=partition)

    def _wait(self, client: Any, sleep: Sleep, **partition: str) -> None:
        """Wait while there is progress: how long it takes depends on the collection's size, not on one call's limit."""
        best, deadline = -1, 0.0
        while (state := self._asked(client, **partition))["state"].name != "Loaded":
            if state["state"].name != "Loading":
                raise Unavailable(f"collection '{self._collection}' was released while it was loaded into memory")
            progress = int(state.get("progress") or 0)
            if progress > best:
                best, deadline = progress, time.monotonic() + STALLED_SECONDS
            elif time.monotonic() >= deadline:
                raise Unavailable(
                    f"collection '{self._collection}' stands at {progress} % of being loaded into memory "
                    f"for {STALLED_SECONDS:.0f} s; is there enough memory?"
                )
            sleep(_POLL_SECONDS)

    def _missing_partitions(self, client: Any) -> list[str]:
        partitions = client.list_partitions(self._collection, timeout=self._timeout)
        if len(partitions) == 1:
            return []
        return [name for name in partitions if self._state(client, partition_name=name) != "Loaded"]

    def _state(self, client: Any, **partition: str) -> str:
        """NotExist, NotLoad, Loading or Loaded."""
        return str(self._asked(client, **partition)["state"].name)

    def _asked(self, client: Any, **partition: str) -> dict[str, Any]:
        return dict(client.get_load_state(self._collection, timeout=self._timeout, **partition))
