"""The one table of what can be asked of the sidecar; MCP and JSON-RPC are two faces of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from vectormigrate_dagster.errors import NotPermitted
from vectormigrate_dagster.mapping.recommend import SchemaRecommendation
from vectormigrate_dagster.services.models import ActionDocument, MigrationList, Status
from vectormigrate_dagster.services.recommend import recommend
from vectormigrate_dagster.services.warm import Reader
from vectormigrate_dagster.services.webserver import Webserver
from vectormigrate_dagster.sidecar.actions import Actions
from vectormigrate_dagster.sidecar.inputs import (
    ConfirmedInput,
    CutoverInput,
    ListInput,
    MigrationInput,
    RecommendationInput,
    ValidateInput,
)
from vectormigrate_dagster.sidecar.principal import Principal, Scope
from vectormigrate_dagster.sidecar.problems import clean
from vectormigrate_dagster.sidecar.settings import Settings

__all__ = ["Tool", "tools"]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Something that can be asked.

    Args:
        description: for a model that chooses among tools.
        run: takes the checked input and the caller.
        scope: what the caller's key must allow.
        read_only, destructive, idempotent, open_world: MCP's hints about it.
    """

    name: str
    title: str
    description: str
    input: type[BaseModel]
    output: type[BaseModel]
    run: Callable[[Any, Principal], BaseModel]
    scope: Scope = "read"
    read_only: bool = True
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False

    def call(self, arguments: Any, caller: Principal) -> dict[str, Any]:
        """Answer with a JSON document.

        Raises:
            NotPermitted: the caller's key does not allow it.
            ValidationError: the arguments are wrong.
            VectorMigrateError: it cannot be done.
        """
        if self.scope == "write" and not caller.may_write:
            raise NotPermitted(f"'{self.name}' changes something, and key '{caller.name}' may only read")
        given = self.input.model_validate({} if arguments is None else arguments)
        answer = clean(self.run(given, caller).model_dump(mode="json"))
        return dict(answer)


def tools(reader: Reader, settings: Settings) -> Mapping[str, Tool]:
    """The table, in the order in which they are listed; what changes something only where that is switched on."""
    table = _reads(reader)
    if settings.enable_writes and settings.webserver_url is not None:
        table += _writes(Actions(reader.context, Webserver(settings.webserver_url)))
    return {tool.name: tool for tool in table}


def _reads(reader: Reader) -> list[Tool]:
    return [
        Tool(
            name="migration_status",
            title="Migration status",
            description=(
                "Where one migration stands: state, progress, rate, time left, partitions, validation, last error. "
                "Answered from Dagster's storage; at most a few seconds old. Ask again to follow running work."
            ),
            input=MigrationInput,
            output=Status,
            run=lambda given, _: reader.status(given.migration_id),
        ),
        Tool(
            name="list_migrations",
            title="List migrations",
            description="The configured migrations with state and progress, filtered, sorted, a page at a time.",
            input=ListInput,
            output=MigrationList,
            run=lambda given, _: reader.list_migrations(**given.model_dump()),
        ),
        Tool(
            name="schema_recommendation",
            title="Schema recommendation",
            description=(
                "What fields of one vector database become in another, how sure that is, and what to look out for. "
                "Connects to nothing; the plan of a migration looks at the real data."
            ),
            input=RecommendationInput,
            output=SchemaRecommendation,
            run=lambda given, _: recommend(
                source_type=given.source_type, target_type=given.target_type, fields=given.source_schema
            ),
        ),
    ]


def _writes(actions: Actions) -> list[Tool]:
    return [
        _action(
            name="start_migration",
            title="Start or resume a migration",
            description=(
                "Plan a configured migration if need be and load what is not loaded. Returns at once; follow it with "
                "migration_status. Takes the name of a migration file, never addresses or keys. Goes on after a stop."
            ),
            run=actions.start,
        ),
        _action(
            name="stop_migration",
            title="Stop a migration",
            description="End running work at its next batch. All that is moved is kept; start_migration goes on there.",
            run=actions.stop,
        ),
        _action(
            name="validate_migration",
            title="Validate a migration",
            description=(
                "Compare source and target: counts, ids, records and search results, on a sample or in full. Returns "
                "at once; 'validation' of migration_status holds the outcome."
            ),
            input=ValidateInput,
            run=actions.validate,
        ),
        _action(
            name="rollback_migration",
            title="Roll back a migration",
            description=(
                "Take back what a migration wrote, in two steps: the first call says what would be done and gives a "
                "confirmation_token, the second call with that token does it. Show the steps to a person in between."
            ),
            input=ConfirmedInput,
            run=actions.rollback,
            destructive=True,
        ),
        _action(
            name="cutover_migration",
            title="Cut over a live migration",
            description=(
                "Make the target of a live migration the primary, go back (move: reverse) or end it (move: complete), "
                "in two steps: the first call says what would be done and what blocks it, and gives a "
                "confirmation_token; the second call with that token does it. Show the steps to a person in between."
            ),
            input=CutoverInput,
            run=actions.cutover,
            destructive=True,
        ),
    ]


def _action(*, input: type[BaseModel] = MigrationInput, **more: Any) -> Tool:
    """A tool that launches or ends runs; asked for twice, it does it once."""
    return Tool(input=input, output=ActionDocument, scope="write", read_only=False, open_world=True, **more)
