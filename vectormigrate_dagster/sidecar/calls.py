"""One call of a tool, whichever face it came by: run beside the event loop, told to the audit, never an exception."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.types import Scope

from vectormigrate_dagster.sidecar.audit import note_call
from vectormigrate_dagster.sidecar.codes import FAILED, NOT_SO, UNAVAILABLE
from vectormigrate_dagster.sidecar.patience import Workers
from vectormigrate_dagster.sidecar.principal import Principal
from vectormigrate_dagster.sidecar.problems import Problem, problem_of
from vectormigrate_dagster.sidecar.tools import Tool

READ_SECONDS = 30.0
"""Within which a question is answered, or its caller is told that Dagster's storage does not answer."""
WRITE_SECONDS = 180.0
"""The same of what launches runs: the webserver is asked several times, each with a limit of its own."""
THREADS = 32

Answer = TypeVar("Answer")

_OF_A_MIGRATION = {None, NOT_SO, UNAVAILABLE, FAILED}
"""Outcomes that only a migration has that there is."""


class Calls:
    """Calls of all callers, which share a bounded number of threads."""

    def __init__(self) -> None:
        self._workers = Workers(THREADS)

    async def ask(self, question: Callable[[], Answer]) -> Answer:
        """Ask what blocks and changes nothing.

        Raises:
            TimeoutError: it was not answered in time.
            Exception: what the question has raised.
        """
        return await self._workers.run(question, READ_SECONDS)

    async def perform(
        self, tool: Tool, arguments: Any, caller: Principal, scope: Scope | None
    ) -> dict[str, Any] | Problem:
        """The answer to a call, or what is wrong.

        Args:
            tool: what is called.
            arguments: as they came.
            caller: who calls.
            scope: of the HTTP request; None on standard input and output, whose other end is the owner of this process.
        """
        answer: dict[str, Any] | Problem
        seconds = READ_SECONDS if tool.scope == "read" else WRITE_SECONDS
        try:
            answer = await self._workers.run(partial(tool.call, arguments, caller), seconds)
        except TimeoutError as error:
            arguments = None  # nobody has checked what they hold
            answer = problem_of(error) if tool.scope == "read" else _unknown(tool, seconds)
        except Exception as error:  # noqa: BLE001  (a caller gets an answer whatever happens; `problem_of` logs it)
            answer = problem_of(error)
        if scope is not None:
            _note(scope, tool, arguments, answer)
        return answer


def _unknown(tool: Tool, seconds: float) -> Problem:
    told = f"'{tool.name}' has not ended within {seconds:g} s, and may still be done; look before you call it again"
    return Problem(UNAVAILABLE, told)


def _note(scope: Scope, tool: Tool, arguments: Any, answer: dict[str, Any] | Problem) -> None:
    code = answer.code if isinstance(answer, Problem) else None
    known = code in _OF_A_MIGRATION and isinstance(arguments, dict)
    runs = () if isinstance(answer, Problem) else answer.get("runs", ()) if tool.scope == "write" else ()
    note_call(
        scope,
        tool.name,
        migration_id=arguments.get("migration_id") if known else None,
        outcome="ok" if code is None else str(code),
        run_id=next(iter(runs), None),
    )
