"""Where a record stands on either side: keys of the journal, which are ids of the source, as keys of a re-sync."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from vectormigrate_dagster.live.journal import Key, Side
from vectormigrate_dagster.mapping.ids import RefusedId, target_id
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.mapping.scopes import ScopeRule, may_be_named
from vectormigrate_dagster.model import Capabilities, Id, IdColumn, IdKind, ScopeKind
from vectormigrate_dagster.transfer.resync import Keys


@dataclass(frozen=True, order=True)
class Place:
    """Where a record stands, or would stand, in the target.

    Args:
        scope: where.
        kind: of its id.
        id: its id.
    """

    scope: str | None
    kind: IdKind
    id: Id


@dataclass(frozen=True, kw_only=True)
class Group:
    """Keys that one re-sync takes at once.

    Args:
        of: the journal's keys, row by row.
        keys: the same for the re-sync.
    """

    of: Sequence[Key]
    keys: Keys

    def take(self, rows: Sequence[int]) -> Group:
        """Some rows, in the order given."""
        keys = replace(
            self.keys,
            ids=self.keys.ids.take(rows),
            target_ids=self.keys.target_ids.take(rows),
            seen=[self.keys.seen[row] for row in rows],
        )
        return Group(of=[self.of[row] for row in rows], keys=keys)


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """What became of some keys.

    Args:
        groups: what can be re-synced.
        nowhere: keys that have no place in the target, and why.
    """

    groups: tuple[Group, ...]
    nowhere: dict[Key, str] = field(default_factory=dict)


class KeyMap:
    """Turns keys of the journal into those of a re-sync, in either direction.

    Args:
        mapping: the plan's.
        default_scope: the source's scope of records that were given none (`Capabilities.default_scope`).
        target: what the target can do; a scope that it cannot be given is refused.
        scopes: those that the migration moves; None is all, those that appear later too.
    """

    def __init__(
        self,
        mapping: Mapping,
        *,
        default_scope: str | None = None,
        target: Capabilities | None = None,
        scopes: Sequence[str] | None = None,
    ) -> None:
        self.mapping = mapping
        self._target = target
        self._default = default_scope
        self._scopes = None if scopes is None else frozenset(scopes)

    @property
    def reads_records(self) -> bool:
        """Whether some ids or scopes of the target come out of payloads, so that a key alone does not tell them."""
        return self.mapping.ids.restore is not None or self.mapping.scope.rule is ScopeRule.FROM_FIELD

    def scope_of(self, key: Key) -> str | None:
        """The scope of a key as the source itself names it."""
        if self.mapping.source_schema.scope in (ScopeKind.NONE, ScopeKind.FIELD):
            return None
        return self._default if key.scope is None else key.scope

    def canonical(self, key: Key) -> Key:
        """The one of the keys that an application may name a record by that stands for all of them."""
        return replace(key, scope=self.scope_of(key))

    def leaves_out(self, key: Key) -> bool:
        """Whether the migration is not of a key's scope, because its file names others."""
        return self._scopes is not None and self.scope_of(key) not in self._scopes

    def target_scope(self, key: Key) -> str | None:
        """The target's scope for a key's, as long as it does not come from payloads.

        Raises:
            RefusedId: the migration does not move that scope, or the target can have none of that name.
        """
        scope, mapped = self.scope_of(key), self.mapping.scope
        divided = self.mapping.source_schema.scope
        if scope is None and divided not in (ScopeKind.NONE, ScopeKind.FIELD):
            raise RefusedId(f"it was reported without its {divided.value}, and the source is divided into those")
        if self.leaves_out(key):
            raise RefusedId(f"scope '{scope}' is not one that this migration moves")
        if mapped.rule is ScopeRule.SINGLE and scope not in (None, mapped.only):
            raise RefusedId(f"scope '{scope}' appeared after the plan, which is for scope '{mapped.only}'; plan again")
        if mapped.rule is not ScopeRule.NATIVE or scope is None:
            return None
        if self._target is not None and not may_be_named(scope, self._target):
            raise RefusedId(f"scope '{scope}' appeared after the plan, and the target accepts no such name for one")
        return scope

    def place(self, key: Key) -> Place:
        """Where the record of a key stands in the target, as far as its payload has no say in that.

        Raises:
            RefusedId: it has no place there; the message says why.
        """
        scope = self.target_scope(key)
        kind, value = target_id(self.mapping.ids, key.id, key.kind, self.scope_of(key))
        return Place(scope, kind, value)

    def grouped(self, keys: Iterable[Key], primary: Side, *, most: int) -> Grouped:
        """Keys, each once, in groups of at most `most` records with one scope and kind of id on each side."""
        places: dict[Key, list[Place]] = {}
        nowhere: dict[Key, str] = {}
        for key in dict.fromkeys(keys):
            try:
                places[key] = [self.place(key)]
            except RefusedId as reason:
                nowhere[key] = str(reason)
        return Grouped(groups=tuple(self.at(places, primary, most=most)), nowhere=nowhere)

    def at(self, places: dict[Key, list[Place]], primary: Side, *, most: int) -> list[Group]:
        """Groups of keys whose places are known; a key that may stand in several places is in several groups."""
        together: dict[tuple[str | None, IdKind, str | None, IdKind], list[tuple[Key, Place]]] = defaultdict(list)
        for key, known in places.items():
            for place in known:
                together[self.scope_of(key), key.kind, place.scope, place.kind].append((key, place))
        return [
            self._group(primary, pairs[start : start + most])
            for pairs in together.values()
            for start in range(0, len(pairs), most)
        ]

    def _group(self, primary: Side, pairs: Sequence[tuple[Key, Place]]) -> Group:
        key, place = pairs[0]
        source = self.scope_of(key), IdColumn.of(key.kind, [one.id for one, _ in pairs])
        target = place.scope, IdColumn.of(place.kind, [one.id for _, one in pairs])
        read, written = (source, target) if primary == "source" else (target, source)
        keys = Keys(
            scope=read[0], ids=read[1], target_scope=written[0], target_ids=written[1], seen=[None] * len(pairs)
        )
        return Group(of=[one for one, _ in pairs], keys=keys)
