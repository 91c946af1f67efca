"""Folders of embedded databases: one process at a time, one client per folder within it.

Every `Database` object on a folder takes part in one shared client; the last one that goes closes it.
`hold` takes part without opening, so that a long command pays for opening a folder once.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vectormigrate_dagster.databases.base import Sleep
from vectormigrate_dagster.errors import SchemaMismatch, Unavailable

POLL_SECONDS = 0.1


class FolderBusy(Exception):
    """Another process has the folder open; raised by `Engine.open`, never seen outside this module."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How one embedded database opens and closes a folder.

    Args:
        title: its name for people.
        proof: a file or folder that each of its folders holds, by which one is known.
        lock_file: the file on which the process that has the folder open holds a lock.
        open: returns a client; raises `FolderBusy` if another process has the folder.
        close: closes the client and gives the folder's lock back.
    """

    title: str
    proof: str
    lock_file: str
    open: Callable[[Path], Any]
    close: Callable[[Path, Any], None]


@dataclass(frozen=True)
class Connection:
    """A client, the lock to hold while calling it, and how to give it back."""

    client: Any
    lock: AbstractContextManager[Any]
    close: Callable[[], None]


@dataclass(eq=False)
class _Folder:
    """One folder in use by this process. Embedded engines are not safe for threads, hence one lock for all calls."""

    users: int = 0
    client: Any = None
    engine: Engine | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


_folders: dict[Path, _Folder] = {}
_guard = threading.Lock()


def exists(engine: Engine, path: Path) -> bool:
    """Whether `path` holds a database of `engine`; nothing is opened or made.

    Raises:
        SchemaMismatch: there is something else.
    """
    if (path / engine.proof).exists():
        return True
    if path.is_file():
        raise SchemaMismatch(
            f"'{path}' is a file, but an embedded {engine.title} database is a folder "
            f"(a file may come from an older version, which this one cannot read); name a folder"
        )
    if path.is_dir() and (names := sorted(p.name for p in path.iterdir())):
        raise SchemaMismatch(
            f"'{path}' is not a folder of embedded {engine.title}: it holds no '{engine.proof}' "
            f"but {', '.join(repr(name) for name in names[:4])}; check 'type' and 'path'"
        )
    return False


def open_folder(engine: Engine, path: Path, wait_s: float, sleep: Sleep = time.sleep) -> Connection:
    """Take part in the folder's client, opening it if nobody has; makes the folder if there is none.

    Args:
        engine: the database whose folder it is.
        path: the folder.
        wait_s: seconds to wait for another process to give it back.
        sleep: how to wait; what it raises ends the wait.

    Raises:
        Unavailable: another process still has it.
        SchemaMismatch: it is not a folder of this engine.
    """
    exists(engine, path)
    real = path.resolve()
    folder = _enter(real)
    try:
        with folder.lock:
            if folder.client is None:
                folder.client, folder.engine = _open(engine, real, wait_s, sleep), engine
    except BaseException:
        _leave(real, folder)
        raise
    return Connection(folder.client, folder.lock, lambda: _leave(real, folder))


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep the folder open, once somebody opened it, until the end of the `with` block."""
    real = path.resolve()
    folder = _enter(real)
    try:
        yield
    finally:
        _leave(real, folder)


def is_locked(file: Path) -> bool:
    """Whether somebody holds a lock on `file`, as both engines do on a file in their folder."""
    if not file.exists():
        return False
    with file.open("r+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _open(engine: Engine, real: Path, wait_s: float, sleep: Sleep) -> Any:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return engine.open(real)
        except FolderBusy:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"folder '{real}' is in use by another process (waited {wait_s:g} s); an embedded "
                    f"{engine.title} folder serves one process at a time: end the other one, or use a server"
                ) from None
        sleep(POLL_SECONDS)


def _enter(real: Path) -> _Folder:
    with _guard:
        folder = _folders.setdefault(real, _Folder())
        folder.users += 1
        return folder


def _leave(real: Path, folder: _Folder) -> None:
    with _guard:
        folder.users -= 1
        if folder.users == 0:
            del _folders[real]
            if folder.engine is not None:
                folder.engine.close(real, folder.client)
