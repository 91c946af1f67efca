"""Has Dagster read the versions of its storage's schema once a process.

It reads them all, 60 modules, for each database that it opens; each run has one of its own. That is a fifth of what a
small migration costs, and no part of what is tested.
"""

from __future__ import annotations

from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory

_READ: dict[str | None, ScriptDirectory] = {}
_from_config = ScriptDirectory.from_config


def _read_once(config: Config, *_: Any) -> ScriptDirectory:
    place = config.get_main_option("script_location")
    if place not in _READ:
        read = _from_config(config)
        read.get_heads()  # it is read when it is first asked
        _READ[place] = read
    return _READ[place]


def read_once() -> None:
    """Begin to remember."""
    ScriptDirectory.from_config = _read_once  # type: ignore[method-assign]
