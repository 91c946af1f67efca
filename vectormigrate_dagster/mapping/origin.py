"""What an earlier migration wrote into a collection, and what its records were before."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.mapping.json_field import unpacked
from vectormigrate_dagster.mapping.keys import unshadow
from vectormigrate_dagster.model import CollectionSchema, FieldSchema, IdKind, Payload


class Origin(BaseModel):
    """What a migration writes into a collection that it creates, so that a migration back is its inverse.

    It stands under the key `mapping` of `CollectionSchema.marker`.

    Args:
        id_kinds: kinds of id of the source.
        ids: how ids were made and where originals are kept; None if ids were kept.
        unique_ids: ids were unique over all scopes of the source.
        scope_field: payload field with the original scope.
        vectors: vector here -> its name before ("" for an unnamed one), where they differ.
        keys: payload key here -> key before, where they differ by more than `shadowed` says.
        shadowed: names that shadow payload keys here; see `mapping.keys`.
        json_field: payload field with the values that have no place of their own here; see `mapping.json_field`.
        fields: declared fields of a source that keeps no others, by their names there: a way back declares them again.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    id_kinds: tuple[IdKind, ...] = ()
    ids: dict[str, Any] | None = None
    unique_ids: bool = False
    scope_field: str | None = None
    vectors: dict[str, str] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    shadowed: tuple[str, ...] = ()
    json_field: str | None = None
    fields: tuple[FieldSchema, ...] = ()

    @classmethod
    def of(cls, schema: CollectionSchema) -> Origin:
        """What an earlier migration wrote into a collection; empty if none did."""
        found = (schema.marker or {}).get("mapping")
        return cls.model_validate(found) if found else cls()


class Before(BaseModel):
    """How to see payloads of a source as they were before an earlier migration; all of mapping speaks of those.

    Args:
        keys: key here -> key before.
        shadowed: names that shadow keys here.
        json_field: field whose values are unpacked, where an earlier migration may have written them. The collection's
            marker names it. Where there is none (it could not be kept, or the collection was there before), it is
            the field of this migration: a text that is not in the form that `json_field.packed` writes is left alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: dict[str, str] = Field(default_factory=dict)
    shadowed: tuple[str, ...] = ()
    json_field: str | None = None

    @classmethod
    def of(cls, source: CollectionSchema, options: MappingConfig) -> Before:
        """What an earlier migration says, or may have done, about payloads of `source`."""
        origin = Origin.of(source)
        marked = bool((source.marker or {}).get("mapping"))
        return cls(
            keys=origin.keys,
            shadowed=tuple(sorted(origin.shadowed)),
            json_field=origin.json_field if marked else options.json_field,
        )

    @property
    def renames(self) -> bool:
        """Whether some key was called otherwise."""
        return bool(self.keys or self.shadowed)

    def key(self, key: str) -> str:
        """What a key was called."""
        return self.keys[key] if key in self.keys else unshadow(key, self.shadowed)

    def unpacked(self, key: str, value: Any) -> Payload | None:
        """The values that stand in a key's value by their names before; None if it holds none."""
        return unpacked(value) if key == self.json_field else None

    def payload(self, payload: Payload) -> Payload:
        """A payload as it was; where a key comes twice, the value outside the JSON field wins (see `PayloadMapper`)."""
        found: Payload = {}
        for key, value in payload.items():
            inner = self.unpacked(key, value)
            if inner is None:
                found[self.key(key)] = value
            else:
                found = {**inner, **found}
        return found

    def changes(self, payload: Payload) -> bool:
        """Whether `payload(...)` may differ from what it is given."""
        return self.renames or (self.json_field is not None and self.json_field in payload)

    def options(self, options: MappingConfig) -> MappingConfig:
        """The owner's wishes, with keys of the source called as they were before."""
        return options.model_copy(
            update={
                "drop": tuple(self.key(key) for key in options.drop),
                "rename": {self.key(key): name for key, name in options.rename.items()},
                "types": {self.key(key): wanted for key, wanted in options.types.items()},
            }
        )
