"""Where a verb works: the folder of migration files and the home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.home import CATCH_UP_LIST, open_home, refusals_folder
from vectormigrate_dagster.migration_file import find_migration


@dataclass(frozen=True)
class Context:
    """The folders that a verb works in.

    Args:
        migrations: folder of migration files.
        home: folder of Dagster's storage; created on first use.
    """

    migrations: Path
    home: Path

    def migration(self, migration_id: str) -> Migration:
        """Load one migration file.

        Raises:
            ConfigurationError: there is none of that name, or it is wrong.
        """
        return find_migration(self.migrations, migration_id)

    def refusals(self, migration_id: str) -> Path:
        """The folder that lists records that were not moved, a file for each partition that has some."""
        return refusals_folder(self.home, migration_id)

    def unlike(self, migration_id: str) -> Path:
        """The file that lists records that catching up could not make alike; it is there if there are some."""
        return self.refusals(migration_id) / CATCH_UP_LIST

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's storage in the home."""
        with open_home(self.home) as instance:
            yield instance


def endpoints(migration: Migration) -> tuple[Endpoint, Endpoint]:
    """Source and target with their secrets, from this process's environment.

    Raises:
        MissingSecret: a variable that the file names is not set.
    """
    return migration.source.endpoint(os.environ), migration.target.endpoint(os.environ)
