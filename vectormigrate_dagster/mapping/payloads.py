"""Map one payload: keys, added and removed fields, values without a place, and checks that a sample cannot prove."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from vectormigrate_dagster.mapping.column_values import holds, misfit
from vectormigrate_dagster.mapping.field_models import FieldMapping
from vectormigrate_dagster.mapping.keys import KeyRules
from vectormigrate_dagster.mapping.limit_check import LimitCheck, RefusedPayload
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.plain import Plain
from vectormigrate_dagster.mapping.profiler import is_whole
from vectormigrate_dagster.mapping.quick import quick_check
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.model import EncodedPayloads, FieldSchema, Payload

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
        declared = [field for field in mapping.target_schema.fields if field.declared]
        self._columns = {
            field.name: FieldMapping(source=field.name, target=field.name, column=field) for field in declared
        }
        self._columns |= {m.target: m for m in mapping.fields if m.column is not None}
        self._whole = frozenset(m.source for m in mapping.fields if m.whole)
        self._by_key = {m.source: m for m in mapping.fields}
        placed = {m.source for m in mapping.fields if m.packed or m.column is not None}
        looked_at = self._whole if mapping.json_field is None else self._whole | placed
        self._targets = _Targets(mapping.keys, mapping.before, looked_at)
        self._plain = Plain(mapping.limits, restricted=True)
        self._fits = {name: quick_check(_column(field)) for name, field in self._columns.items()}
        self._check = LimitCheck(mapping.limits, frozenset(self._columns), packs=mapping.json_field is not None)
        kept = not (self._columns or self._whole or self._keys.renames or self._before.renames)
        self._keeps_keys = kept and mapping.dynamic and mapping.json_field is None

    def holds(self, payloads: Sequence[Payload]) -> bool:
        """Whether the target holds every value of these, because it holds whatever their form can say.

        Values that an earlier migration packed into a text are not of that form: JSON has ints of any length.
        """
        if not (self._limits.holds_all and isinstance(payloads, EncodedPayloads)):
            return False
        packed = self._before.json_field
        return packed is None or not payloads.may_hold(packed)

    def carries(self, payloads: Sequence[Payload]) -> bool:
        """Whether `map` would pass all of these on as they are, known without decoding one."""
        return self._keeps_keys and self.holds(payloads)

    def map(
        self, payload: Payload, *, without: Collection[str] = (), added: Payload | None = None, held: bool = False
    ) -> Payload:
        """The payload for the target.

        Args:
            without: keys of the source that become ids or scopes again.
            added: keys of the target that keep an id or scope.
            held: it is known that the target holds all values (`holds`).

        Raises:
            RefusedPayload: the target cannot hold it exactly, and the plan did not allow a loss.
        """
        if self._json_field is not None:
            if not (without or added) and (placed := self._placed(payload)) is not None:
                return placed
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
        if not held:
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
        renamed = None if without else self._renamed(payload)
        return self._rebuilt(payload, without) if renamed is None else self._limits.all_written(renamed)

    def _renamed(self, payload: Payload) -> Payload | None:
        """The payload with the target's keys; None if a value has to be looked at, or keys clash."""
        try:
            targets = [self._targets[key] for key in payload]
        except KeyError:
            return None
        if targets == list(payload):
            return payload
        mapped = dict(zip(targets, payload.values(), strict=True))
        mapped.pop(None, None)
        return mapped if len(mapped) == len(targets) - targets.count(None) else None  # type: ignore[return-value]

    def _rebuilt(self, payload: Payload, without: Collection[str]) -> Payload:
        """The payload for the target, value by value."""
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

    def _placed(self, payload: Payload) -> Payload | None:
        """The same where one look proves that the target holds every value under its key; None if it does not."""
        renamed = self._renamed(payload) if self._dynamic else None
        if renamed is None or self._json_field in renamed or not self._plain.holds(renamed):
            return None
        return self._limits.all_written(renamed)

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


class _Targets(dict[str, str | None]):
    """Key of a payload -> key of the target, None if it is dropped; it has none whose values have to be looked at."""

    def __init__(self, keys: KeyRules, before: Before, looked_at: frozenset[str]) -> None:
        super().__init__()
        self._keys = keys
        self._before = before
        self._looked_at = looked_at

    def __missing__(self, key: str) -> str | None:
        name = self._before.key(key)
        if key == self._before.json_field or name in self._looked_at:
            raise KeyError(key)
        target = self._keys.target_of(name)
        if len(self) < _REMEMBERED_KEYS:
            self[key] = target
        return target


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
