"""What tools are asked with: strict about meaning, lenient about form.

Clients write numbers as they like: `10`, `10.0` and `"10"` are the same here, as they were for the original tool, and a
null or an empty text stands for the default where there is one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vectormigrate_dagster.services.models import MigrationStatus

MAX_FIELDS = 500
"""Fields of one schema that a recommendation is asked about."""
MAX_CHANGES = 10_000
"""Ids that one request may report as changed."""

_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _or(default: Any) -> BeforeValidator:
    """Take the default where nothing was said."""
    return BeforeValidator(lambda value: default if value is None or value == "" else value)


MigrationId = Annotated[
    str, Field(pattern=_ID, description="Name of a configured migration.", examples=["mig-123"], max_length=64)
]
Name = Annotated[str, Field(max_length=256)]


class Input(BaseModel):
    """What a tool is asked with; a word that it does not know is an error, so that none is lost in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False)


class MigrationInput(Input):
    """A migration."""

    migration_id: MigrationId


class ListInput(Input):
    """Which migrations to list, and how."""

    status: Annotated[
        MigrationStatus | None, _or(None), Field(description="Only migrations in this state; empty: all.")
    ] = None
    limit: Annotated[int, _or(10), Field(ge=1, le=1000, description="At most so many.")] = 10
    offset: Annotated[int, _or(0), Field(ge=0, le=1_000_000, description="Leave out the first so many.")] = 0
    sort_by: Annotated[Literal["created_at", "migration_id", "status"], _or("created_at")] = "created_at"
    sort_order: Annotated[Literal["asc", "desc"], _or("desc")] = "desc"


class RecommendationInput(Input):
    """Two databases and, if one likes, the fields of a schema."""

    source_type: Annotated[Name, Field(description="pinecone, qdrant, weaviate or milvus.")]
    target_type: Annotated[Name, Field(description="pinecone, qdrant, weaviate or milvus.")]
    source_schema: Annotated[
        Annotated[dict[Name, Name], Field(max_length=MAX_FIELDS)] | None,
        Field(description="Name of a field -> its type, in any database's words."),
    ] = None


class ValidateInput(MigrationInput):
    """How much of a migration to compare."""

    full: Annotated[bool, _or(False), Field(description="Compare every record, not a sample.")] = False
    sample_size: Annotated[
        Annotated[int, Field(ge=1, le=10_000_000)] | None,
        _or(None),
        Field(description="Records to compare; empty: as configured."),
    ] = None
    seed: Annotated[
        Annotated[int, Field(ge=0, le=2**31 - 1)] | None,
        _or(None),
        Field(description="The same number draws the same sample."),
    ] = None


class ConfirmedInput(MigrationInput):
    """A migration, and on the second call the token that the first one has given."""

    confirmation_token: Annotated[
        Annotated[str, Field(max_length=128)] | None,
        _or(None),
        Field(description="Empty: say what would be done, and do nothing."),
    ] = None


class CutoverInput(ConfirmedInput):
    """Which way to move the primary of a live migration."""

    move: Annotated[
        Literal["cutover", "reverse", "complete"],
        _or("cutover"),
        Field(description="The target becomes the primary; back to the source; or end, with no way back."),
    ] = "cutover"
    reason: Annotated[
        Annotated[str, Field(max_length=500)] | None,
        _or(None),
        Field(description="Why, for whoever reads the history."),
    ] = None


class ChangesInput(MigrationInput):
    """Records that the application has changed: their ids in the source."""

    ids: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(min_length=1, max_length=MAX_CHANGES)]
    scope: Annotated[
        Annotated[str, Field(max_length=1024)] | None, Field(description="Namespace, tenant or partition.")
    ] = None
    kind: Annotated[
        Literal["u64", "i64", "uuid", "text"] | None, _or(None), Field(description="Empty: as the source has it.")
    ] = None
