"""What a plan says about payload keys, and what the decisions about them depend on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.mapping.keys import KeyRules
from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.loss import LossRow
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.model import Capabilities, CollectionSchema, FieldSchema, FieldType


class FieldMapping(BaseModel):
    """What becomes of one payload key.

    Args:
        source: the key, as it was before an earlier migration (`origin.Before`).
        column: the target's declared column; None where the key stays undeclared.
        absent_as_null: a record without the key gets null, unless the column has a default, which every such
            record gets; otherwise such a record is refused by a column.
        rounds: floats may be rounded to float32; otherwise a record whose float would change is refused.
        whole: floats without a fraction become ints, because the source holds ints as floats and the column takes ints.
        packed: the owner wants every value in the JSON field.
        same: values come out of a column of the same database, so they are spelt as this column spells them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    column: FieldSchema | None = None
    absent_as_null: bool = False
    rounds: bool = False
    same: bool = False
    whole: bool = False
    packed: bool = False

    @property
    def conversion(self) -> str:
        """What happens to values: `copy`, or the type of the column that takes them."""
        return "copy" if self.column is None else self.column.type.value


@dataclass(frozen=True)
class MappedFields:
    """The fields of a plan: what to do, what to create, what to report."""

    mappings: tuple[FieldMapping, ...]
    schemas: tuple[FieldSchema, ...]
    rows: tuple[LossRow, ...]
    names: dict[str, str]


@dataclass(frozen=True)
class FieldContext:
    """What the decision about a field depends on.

    Args:
        options: the owner's wishes for payload keys, called as they were before an earlier migration.
        keys: how keys are called in the target, names of columns aside, which are found last.
        limits: what the target holds under any key.
        json_field: payload field of the target that keeps values for which it has no place; None if there is none.
        declared_before: fields that were declared where the records come from; see `Origin.fields`.
        removed: keys that an earlier migration added and that now come back as ids or scopes.
        added: keys of the target that keep an id or scope.
    """

    source: CollectionSchema
    source_capabilities: Capabilities
    target: Capabilities
    options: MappingConfig
    profile: Profile
    before: Before
    keys: KeyRules
    limits: Limits
    json_field: str | None = None
    existing: CollectionSchema | None = None
    declared_before: tuple[FieldSchema, ...] = ()
    removed: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()

    @property
    def dynamic(self) -> bool:
        """Whether the target keeps keys that it does not declare."""
        return self.target.dynamic_fields if self.existing is None else self.existing.dynamic

    @property
    def same(self) -> bool:
        """Whether both sides are databases of one type."""
        return self.source_capabilities.type == self.target.type

    @cached_property
    def known(self) -> dict[str, FieldSchema]:
        """Fields that the source declares or indexes, by their names before an earlier migration."""
        gone = {*self.removed, self.before.json_field} - self.profile.fields.keys()
        return {self.before.key(field.name): field for field in self.source.fields if field.name not in gone}


def json_field(
    wanted: str, source: CollectionSchema, before: Before, existing: CollectionSchema | None, *, same: bool
) -> str | None:
    """The field that keeps values for which a target has no other place; None if it has no such field or needs none.

    A collection with declared fields only, made by somebody else, has one if it declares a text of that name. A copy
    within such a database (`same`) needs none, as what is declared fits.
    """
    if existing is not None and not existing.dynamic:
        texts = [field.name for field in existing.fields if field.declared and field.type is FieldType.TEXT]
        return wanted if wanted in texts else None
    copied = same and not source.dynamic
    packed = any(field.name == before.json_field for field in source.fields)
    return wanted if not copied or packed else None
