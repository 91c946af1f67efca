"""Put one payload of the target back into the source's: keys, values in a JSON field, declared columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vectormigrate_dagster.mapping.column_values import holds, misfit
from vectormigrate_dagster.mapping.columns import INT_RANGES
from vectormigrate_dagster.mapping.json_field import packed, unpacked
from vectormigrate_dagster.mapping.keys import shadow, unshadow
from vectormigrate_dagster.mapping.limit_check import RefusedPayload
from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.origin import Origin
from vectormigrate_dagster.mapping.profiler import is_whole, json_type
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import Payload
from vectormigrate_dagster.model.compare import same_value

_ABSENT = object()


class ReversePayloads:
    """Puts payloads back by a plan; payloads that it is given are not changed.

    Args:
        mapping: of the plan.
        limits: what the source holds under any key.
    """

    def __init__(self, mapping: Mapping, limits: Limits) -> None:
        self._before = mapping.before
        self._keys = mapping.keys
        self._json_field = mapping.json_field
        self._packs = Origin.of(mapping.source_schema).json_field
        self._limits = limits
        self._dynamic = mapping.source_schema.dynamic
        self._columns = {field.name: field for field in mapping.source_schema.fields if field.declared}
        self._fields = {field.source: field for field in mapping.fields}
        self._named = {name: key for key, name in mapping.keys.names.items()}
        self._renamed = {name: key for key, name in mapping.keys.rename.items()}
        self._called = {key: name for name, key in mapping.before.keys.items()}

    def back(
        self, changed: Payload, *, promised: Payload | None, standing: Payload | None, ours: Collection[str]
    ) -> Payload:
        """The payload for the source.

        Args:
            changed: the target's.
            promised: what `standing` becomes in the target; None if no record stands in the source.
            standing: what stands in the source; what the target's payload says nothing of is kept.
            ours: keys of the target that keep an id or scope.

        Raises:
            RefusedPayload: the source cannot hold it.
        """
        places = self._places(standing or {})
        names = {self._keys.target_of(key): key for key in places} | self._named
        now, then = (self._flat(payload, names, ours) for payload in (changed, promised or {}))
        result = dict(standing or {})
        for key in dict.fromkeys([*now, *then]):
            value = now.get(key, _ABSENT)
            if value is not _ABSENT and key in then and same_value(value, then[key]):
                continue
            if value is _ABSENT or self._stands_for_nothing(key, value) or self._is_absent_there(value):
                self._remove(result, key, places)
            else:
                self._set(result, key, value, places)
        return self._filled(result)

    def _flat(self, payload: Payload, names: dict[str | None, str], ours: Collection[str]) -> Payload:
        """Values by the keys that the mapping speaks of, those of the JSON field too."""
        flat: Payload = {}
        for name, value in payload.items():
            inner = unpacked(value) if name == self._json_field else None
            if inner is not None:
                flat = {**inner, **flat}
            elif name not in ours:
                flat[names[name] if name in names else self._key(name)] = value
        return flat

    def _key(self, name: str) -> str:
        """The key that a name of the target stands for, as the rules say; names of columns aside."""
        key = unshadow(name, self._keys.shadowed)
        return self._renamed.get(key, key)

    def _places(self, standing: Payload) -> dict[str, tuple[str, bool]]:
        """Key -> field of the source that holds its value, and whether that is packed there."""
        places: dict[str, tuple[str, bool]] = {}
        for name, value in standing.items():
            inner = self._before.unpacked(name, value)
            if inner is None:
                places[self._before.key(name)] = (name, False)
            else:
                places = {**dict.fromkeys(inner, (name, True)), **places}
        return places

    def _stands_for_nothing(self, key: str, value: Any) -> bool:
        """Whether the target gives this value for a key that a record does not have."""
        field = self._fields.get(key)
        if field is None or field.column is None or not (field.absent_as_null or field.column.default is not None):
            return False
        return same_value(value, field.column.default)

    def _is_absent_there(self, value: Any) -> bool:
        """Whether the source has no other form for null than to leave the key out."""
        return value is None and "null" not in self._limits.types and self._packs is None

    def _remove(self, result: Payload, key: str, places: dict[str, tuple[str, bool]]) -> None:
        name, within = places.get(key, (None, False))
        if name is not None and within:
            self._pack(result, name, {one: value for one, value in self._inner(result, name).items() if one != key})
        elif name is not None:
            result.pop(name, None)

    def _set(self, result: Payload, key: str, value: Any, places: dict[str, tuple[str, bool]]) -> None:
        name, within = places.get(key, (self._source_key(key), False))
        before = self._inner(result, name).get(key) if within else result.get(name)
        value = self._as_it_was(name, value, before)
        reason = None if within else self._misfit(name, value)
        if name == self._packs and key not in places:
            reason = "keeps values that have no place of their own"
        if reason is None and not within:
            result[name] = self._limits.written(value)
            return
        if not within:
            if self._packs is None:
                raise RefusedPayload(f"the source cannot hold it: '{name}' {reason}")
            self._remove(result, key, places)
            name = self._packs
        self._pack(result, name, {**self._inner(result, name), key: value})

    def _source_key(self, key: str) -> str:
        """The field of the source for a key that no record there has."""
        return self._called[key] if key in self._called else shadow(key, self._before.shadowed)

    def _as_it_was(self, name: str, value: Any, before: Any) -> Any:
        """A whole float as an int, where the target gives ints as floats and the source says that it was one."""
        column = self._columns.get(name)
        ints = type(before) is int or (column is not None and column.type in INT_RANGES)
        return int(value) if ints and type(value) is float and is_whole(value) else value

    def _inner(self, result: Payload, name: str) -> Payload:
        return self._before.unpacked(name, result.get(name)) or {}

    @staticmethod
    def _pack(result: Payload, name: str, values: Payload) -> None:
        try:
            text = packed(values) if values else None
        except (TypeError, ValueError) as error:
            raise RefusedPayload(f"'{name}' cannot hold it: {error}") from error
        if text is None:
            result.pop(name, None)
        else:
            result[name] = text

    def _misfit(self, name: str, value: Any) -> str | None:
        """Why the source cannot hold a value under a key; None if it can."""
        try:
            column = self._columns.get(name)
            if column is not None and (self._packs is None or holds(column, value, self._limits)):
                return misfit(column, value)
            if column is not None:
                return f"is a column of type {column.type.value}, which would alter it"
            if not self._dynamic:
                return "is not declared in the source"
            if not self._limits.holds_key(name):
                return "is not possible as a key there"
            return None if self._limits.holds(value) else f"holds {json_type(value)}, which it would alter"
        except TypeError as error:
            return str(error)

    def _filled(self, result: Payload) -> Payload:
        """With what the source gives back for declared columns that a record does not have."""
        if "null" not in self._limits.types:
            return result  # there, absent is what null is
        for name, column in self._columns.items():
            if name in result:
                continue
            if column.default is None and not column.nullable:
                raise RefusedPayload(f"it lacks '{name}', which the source needs")
            result[name] = column.default
        return result
