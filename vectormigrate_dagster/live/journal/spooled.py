"""Keys of which there may be millions, in a file for as long as somebody looks at them, so that memory holds a few."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import IO

from vectormigrate_dagster.errors import StorageFailed
from vectormigrate_dagster.live.journal.entries import Key
from vectormigrate_dagster.model import IdKind

BLOCK = 10_000
"""Keys in memory at a time."""


class SpooledKeys:
    """Keys in a file of the process' own, in the order in which they came; see `spooled`."""

    def __init__(self, file: IO[str], count: int) -> None:
        self._file = file
        self._count = count

    def __len__(self) -> int:
        return self._count

    def blocks(self, size: int = BLOCK) -> Iterator[list[Key]]:
        """Yield all keys, so many at a time; from the beginning, whenever it is asked for.

        Raises:
            StorageFailed: the file cannot be read.
        """
        at = 0
        while True:
            with _explained():
                self._file.seek(at)
                lines = list(islice(iter(self._file.readline, ""), size))
                at = self._file.tell()
            if not lines:
                return
            yield [Key(scope, IdKind(kind), text) for scope, kind, text in map(json.loads, lines)]


@contextmanager
def spooled(keys: Iterable[Key]) -> Iterator[SpooledKeys]:
    """Keys in a file, for the length of a block; whatever ends the process removes the file too.

    Raises:
        StorageFailed: there is no place for them.
    """
    with _explained():
        file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="vectormigrate-")  # noqa: SIM115  # closed below
    try:
        count = 0
        with _explained():
            for key in keys:
                file.write(json.dumps((key.scope, key.kind.value, key.text)) + "\n")
                count += 1
            file.flush()
        yield SpooledKeys(file, count)
    finally:
        with suppress(OSError):  # what found no room is tried once more, and was told of
            file.close()


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do where a file finds no room, or cannot be read.

    Raises:
        StorageFailed: in place of what the system says.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"the ids to be looked at again find no room in a temporary file{_folder()}: {error}; make room there, or "
            "name another folder by TMPDIR"
        ) from error


def _folder() -> str:
    try:
        return f" in '{tempfile.gettempdir()}'"
    except OSError:  # there is none that can be written, which the error says
        return ""
