"""Map one payload: keys, added and removed fields, values without a place, and checks that a sample cannot prove."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar

from vectormigrate_dagster.mapping.column_values import holds, misfit
from vectormigrate_dagster.mapping.field_models import FieldMapping
from vectormigrate_dagster.mapping.limit_check import LimitCheck, RefusedPayload
from vectormigrate_dagster.mapping.profiler import is_whole
from vectormigrate_dagster.mapping.quick import quick_check
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import FieldSchema, Payload

__all__ = ["PayloadMapper", "RefusedPayload"]

_REMEMBERED_KEYS = 100_000
_NOTHING: Payload = {}
_Found = TypeVar("_Found")


class PayloadMapper:
    """Maps payloads by a plan. Payloads of the source are never changed; one that needs no change is passed on."""

    def __init__(self, mapping: Mapping) -> None:
        self._before = mapping.before
        self._keys = mapping.keys
        self._dynamic = mapping.dynamic
        self._limits = mapping.limits
        self._json_field = mapping.json_field
        self._kept: dict[str, bool] = {}
        self._kept_keys: set[tuple[str, ...]] = set()
        declared = [field for field in mapping.target_schema.fields if field.declared]
        self._columns = {
            field.name: FieldMapping(source=field.name, target=field.name, column=field) for field in declared
        }
        self._columns |= {m.target: m for m in mapping.fields if m.column is not None}
        self._whole = frozenset(m.source for m in mapping.fields if m.whole)
        self._by_key = {m.source: m for m in mapping.fields}
        self._fits = {name: quick_check(_column(field)) for name, field in self._columns.items()}
        self._check = LimitCheck(mapping.limits, frozenset(self._columns), packs=mapping.json_field is not None)

    def map(self, payload: Payload, *, without: Collection[str] = (), added: Payload | None = None) -> Payload:
        """The payload for the target.

        Args:
            without: keys of the source that become ids or scopes again.
            added: keys of the target that keep an id or scope.

        Raises:
            RefusedPayload: the target cannot hold it exactly, and the plan did not allow a loss.
        """
        if self._json_field is not None:
            mapped = self._place(payload, without, added or _NOTHING)
        else:
            mapped = self._rename(payload, without)
            if added:
                taken = sorted(added.keys() & mapped.keys())
                if taken:
                    raise RefusedPayload(f"the payload has a key '{taken[0]}' already, which is to keep what is ours")
                mapped = {**mapped, **added}
            if self._columns:
                mapped = self._fill(mapped)
            elif not self._dynamic and mapped:
                raise RefusedPayload(f"key '{next(iter(mapped))}' is not declared in the target")
        self._check.check(mapped)
        return mapped

    def _entries(self, payload: Payload, without: Collection[str]) -> list[tuple[str, Any]]:
        """Keys as they were before an earlier migration, with their values."""
        before = self._before
        entries: list[tuple[str, Any]] = []
        for key, value in payload.items():
            if key in without:
                continue
            inner = before.unpacked(key, value)
            if inner is None:
                entries.append((before.key(key), value))
            else:
                entries += inner.items()
        return entries

    def _rename(self, payload: Payload, without: Collection[str]) -> Payload:
        """The payload for a target that has a place for every value."""
        keys = tuple(payload)
        if not without and keys in self._kept_keys:
            return payload
        if not without and all(self._is_kept(key) for key in keys):
            if len(self._kept_keys) < _REMEMBERED_KEYS:
                self._kept_keys.add(keys)
            return payload
        mapped: Payload = {}
        for key, value in self._entries(payload, without):
            target = self._keys.target_of(key)
            if target is None:
                continue
            if target in mapped:
                raise RefusedPayload(f"two keys of the payload would be '{target}', one of them is '{key}'")
            whole = type(value) is float and key in self._whole and is_whole(value)
            mapped[target] = int(value) if whole else self._limits.written(value)
        return mapped

    def _is_kept(self, key: str) -> bool:
        """Whether key and value pass as they are."""
        known = self._kept.get(key)
        if known is None:
            known = key != self._before.json_field and not self._limits.floats
            known = (
                known
                and self._before.key(key) not in self._whole
                and self._keys.target_of(self._before.key(key)) == key
            )
            if len(self._kept) < _REMEMBERED_KEYS:
                self._kept[key] = known
        return known

    def _place(self, payload: Payload, without: Collection[str], added: Payload) -> Payload:
        """The payload for a target with a JSON field: each value where it stays itself, or there."""
        mapped: Payload = {}
        left: Payload = {}
        names: set[str] = set()
        for key, given in self._entries(payload, without):
            value = given
            target = self._keys.target_of(key)
            if target is None:
                continue
            if key in names:
                where = self._before.json_field
                raise RefusedPayload(f"'{key}' stands in the payload and in '{where}', where a migration kept it")
            names.add(key)
            if type(value) is float and is_whole(value) and key in self._whole:
                value = int(value)
            if target in added or not self._holds(key, target, value):
                left[key] = value
            elif target in mapped:
                raise RefusedPayload(f"two keys of the payload would be '{target}', one of them is '{key}'")
            else:
                mapped[target] = self._limits.written(value)
        if left and self._json_field is not None:
            mapped[self._json_field] = self._check.packed(left)
        return {**mapped, **added} if added else mapped

    def _holds(self, key: str, target: str, value: Any) -> bool:
        """Whether the target gives this value back under this key."""
        known = self._by_key.get(key)
        if target == self._json_field or (known is not None and known.packed):
            return False
        if known is None or known.column is None:
            return self._dynamic and self._limits.holds_key(target) and _of_json(key, self._limits.holds, value)
        return _of_json(key, partial(holds, same=known.same), known.column, value, self._limits)

    def _fill(self, payload: Payload) -> Payload:
        """Check values of columns, and give those that stand for absent keys what the target will say they hold."""
        filled = payload
        for name, field in self._columns.items():
            if name in payload and self._fits[name](payload[name]):
                continue
            column = _column(field)
            if name in payload:
                reason = _of_json(name, partial(misfit, rounds=field.rounds), column, payload[name])
                if reason is not None:
                    raise RefusedPayload(f"'{name}' {reason}")
            elif "null" not in self._limits.types:
                continue  # absent is what null is
            elif column.default is not None or field.absent_as_null:
                filled = {**filled, name: column.default}
            else:
                raise RefusedPayload(f"the payload lacks '{name}'; a column of the target cannot tell that from null")
        if not self._dynamic:
            unknown = next((key for key in payload if key not in self._columns), None)
            if unknown is not None:
                raise RefusedPayload(f"key '{unknown}' is not declared in the target")
        return filled


def _of_json(key: str, look: Callable[..., _Found], *values: Any) -> _Found:
    """What `look` says about values; raise `RefusedPayload` if they are not JSON."""
    try:
        return look(*values)
    except TypeError as error:
        raise RefusedPayload(f"'{key}': {error}") from error


def _column(field: FieldMapping) -> FieldSchema:
    if field.column is None:
        raise ValueError(f"field '{field.target}' has no column")
    return field.column
