"""Paths to payload fields: lib/segment/src/json_path/parse.rs of server 1.19."""

from __future__ import annotations

import re

from vectormigrate_dagster_tests.emulators.qdrant.errors import Kind, Refused

_KEY = r"""(?:[\w-]+|"[^"\\]*")"""
_PATH = re.compile(rf"{_KEY}(?:\.{_KEY}|\[[0-9]*\])*")


def as_listed(path: str) -> str:
    """A path as the server lists its index: without the quotes that it does not need."""
    return re.sub(r'"([\w-]+)"', r"\1", path)


def check_path(path: str) -> None:
    """Take only keys of letters, digits, "_" and "-", or in quotes, with "." between them and "[]" or "[0]" behind.

    Raises:
        Refused: it is no path.
    """
    if _PATH.fullmatch(path) is None:
        raise Refused(Kind.FORMAT, f"Invalid json path: '{path}'")
