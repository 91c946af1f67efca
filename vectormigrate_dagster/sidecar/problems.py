"""What a caller is told when something goes wrong: a code, a sentence, and never what was not ours to tell."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vectormigrate_dagster.errors import (
    ConfigurationError,
    DatabaseError,
    NotPermitted,
    NotSo,
    StorageFailed,
    UnknownMigration,
    VectorMigrateError,
)
from vectormigrate_dagster.sidecar.codes import (
    FAILED,
    FORBIDDEN,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    NOT_SO,
    UNAVAILABLE,
    UNKNOWN_MIGRATION,
)
from vectormigrate_dagster.sidecar.failures import place_of

__all__ = ["Problem", "clean", "problem_of"]

_TEXT_CHARACTERS = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PROBLEMS = 10
"""Wrong parameters that are named at once."""

_LOG = logging.getLogger("vectormigrate.sidecar")

_CODES: tuple[tuple[type[VectorMigrateError], int], ...] = (
    (NotPermitted, FORBIDDEN),
    (UnknownMigration, UNKNOWN_MIGRATION),
    (ConfigurationError, INVALID_PARAMS),
    (NotSo, NOT_SO),
    (DatabaseError, UNAVAILABLE),
    (StorageFailed, UNAVAILABLE),
    (VectorMigrateError, FAILED),
)


@dataclass(frozen=True)
class Problem:
    """An error as JSON-RPC has it.

    Args:
        data: what a program can use of it.
    """

    code: int
    message: str
    data: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """The member `error` of an answer."""
        document: dict[str, Any] = {"code": self.code, "message": self.message}
        return document if self.data is None else {**document, "data": self.data}


def problem_of(error: Exception) -> Problem:
    """What is told of an error; of one that is not ours, nothing but that there was one."""
    if isinstance(error, ValidationError):
        return Problem(INVALID_PARAMS, f"invalid params: {_wrong(error)}")
    if isinstance(error, TimeoutError):
        return Problem(UNAVAILABLE, "Dagster's storage did not answer in time; it is busy or hangs, ask again later")
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Problem(code, clean(str(error)), {"type": type(error).__name__})
    # Without its text, which may hold what a caller sent or what a database said.
    _LOG.error("a call failed by a defect: %s at %s", type(error).__name__, place_of(error))
    return Problem(INTERNAL_ERROR, "something went wrong here; the operator finds where in the log")


def clean(value: Any) -> Any:
    """A JSON value whose texts hold no control characters and have an end; what databases say is theirs to choose."""
    if isinstance(value, str):
        text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
        return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}… (shortened)"
    if isinstance(value, dict):
        return {clean(key): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return value


def _wrong(error: ValidationError) -> str:
    """Which parameters are wrong and why; without their values, which may be secrets."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{_place(each['loc'])}: {each['msg']}" for each in found[:_PROBLEMS]]
    if len(found) > _PROBLEMS:
        told.append(f"and {len(found) - _PROBLEMS} more")
    return clean("; ".join(told))  # type: ignore[no-any-return]  # a text stays a text


def _place(parts: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:64] for part in parts) or "params"
