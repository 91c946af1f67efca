"""A folder of migration files, read again only when one of them has changed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.migration_file.loading import BrokenMigration, find_migration, load_folder

_Signature = tuple[tuple[str, int, int, int], ...]
"""Name, time of change in nanoseconds, size and inode of each file."""


class WatchedFolder:
    """What `load_folder` and `find_migration` give, from memory while nothing in the folder has changed.

    Several threads may ask.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: _Signature | None = None
        self._migrations: list[Migration] = []
        self._broken: list[BrokenMigration] = []

    def load(self) -> tuple[list[Migration], list[BrokenMigration]]:
        """Every migration of the folder, and the files that are none.

        Raises:
            ConfigurationError: the folder is not a folder, or cannot be read.
        """
        with self._lock:
            # Looked at before the files are read: one that changes meanwhile is read again the next time.
            now = self._signature()
            if now is None or now != self._seen:
                self._migrations, self._broken = load_folder(self._folder)
                self._seen = now
            return list(self._migrations), list(self._broken)

    def find(self, id: str) -> Migration:
        """One migration.

        Raises:
            ConfigurationError: there is none of that name, or its file is wrong.
        """
        for migration in self.load()[0]:
            if migration.id == id:
                return migration
        return find_migration(self._folder, id)  # it says what is wrong

    def _signature(self) -> _Signature | None:
        try:
            with os.scandir(self._folder) as entries:
                files = [(entry.name, entry.stat()) for entry in entries]
        except OSError:
            return None  # `load_folder` says what is wrong, or that there is nothing
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in files))
