"""The home: the folder of Dagster's storage and of our own files (leases, ownership logs, refusals)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg
from filelock import FileLock

from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.errors import ConfigurationError, StorageFailed

CATCH_UP_LIST = "catch-up.jsonl"
"""Where, beside the lists of partitions, the records are listed that catching up could not make alike."""

_CONFIG = "dagster.yaml"
_READY = ".vectormigrate.ready"


def ensure_home(home: Path) -> Path:
    """Create the home with a tuned `dagster.yaml`, unless it is there; return its absolute path.

    Several first users at once break a fresh SQLite home (each creates the tables), so the first one opens
    every storage under a file lock while the others wait.

    Raises:
        ConfigurationError: `home` is not a folder.
        StorageFailed: it cannot be written, or Dagster's storage cannot be reached.
    """
    home = home.absolute()
    ready = home / _READY
    try:
        if not ready.exists():
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".vectormigrate.lock"):
                _prepare(home)
                ready.touch()
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"home '{home}' is a file; name a folder with --home") from error
    except OSError as error:
        raise StorageFailed(f"home '{home}' cannot be written: {error.strerror or error}") from error
    return home


def _prepare(home: Path) -> None:
    """Write the configuration unless there is one, and have Dagster create its tables."""
    config = home / _CONFIG
    if not config.exists():
        unfinished = home / f".{_CONFIG}.unfinished"
        unfinished.write_bytes(files(__package__).joinpath(_CONFIG).read_bytes())
        unfinished.replace(config)
    with storage(), dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_run_records(limit=1)
        instance.get_asset_keys(limit=1)
        instance.all_instigator_state()


@contextmanager
def open_home(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage in `home`, created on first use.

    Raises:
        ConfigurationError, StorageFailed: as of `ensure_home`.
    """
    path = ensure_home(home)
    with ExitStack() as stack:
        with storage():
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(path)))
        yield instance


def home_of(instance: dg.DagsterInstance) -> Path:
    """The folder that an instance lives in."""
    return Path(instance.root_directory)


def refusals_folder(home: Path, migration_id: str) -> Path:
    """Where the records are listed that a migration did not move."""
    return home / "vectormigrate" / migration_id / "refused"


def migration_folder(instance: dg.DagsterInstance, migration_id: str) -> Path:
    """The folder of one migration's files in the home: ownership logs, refusals, large plans."""
    folder = home_of(instance) / "vectormigrate" / migration_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder
