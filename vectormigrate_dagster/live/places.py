"""Where records stand in the target whose ids or scopes come out of their payloads: a key alone does not tell.

That is so where the source is what an earlier migration made, and original ids or scopes come back. A record whose
payload is gone, or was rewritten without them, is looked for in the target: by its id in every scope, or by its
original among all records, which reads the whole target: once per step, and only if a step has such a record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.live.journal import Key, Side
from vectormigrate_dagster.live.keys import Grouped, KeyMap, Place
from vectormigrate_dagster.mapping.ids import RefusedId, target_id
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Split, id_text
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.transfer.throttle import Throttle


class PlaceFinder:
    """Finds the places of keys on both sides.

    Args:
        keys: of the plan.
        mapper: of the plan.
        source: is read.
        target: is read.
        throttle: of both.
        most: records that both sides give at once.
        check: is called for each page of the target that is read whole; what it raises ends the search.
    """

    def __init__(
        self,
        keys: KeyMap,
        mapper: RecordMapper,
        *,
        source: Source,
        target: Database,
        throttle: Throttle,
        most: int,
        check: Callable[[], None],
    ) -> None:
        self._keys = keys
        self._mapper = mapper
        self._source = source
        self._target = target
        self._throttle = throttle
        self._most = most
        self._check = check

    def grouped(self, keys: Sequence[Key], primary: Side) -> Grouped:
        """Keys in groups that a re-sync takes at once; while the source is primary, in all places where they may be.

        Raises:
            DatabaseError: a database failed for longer than the retry policy allows.
        """
        places: dict[Key, list[Place]] = {}
        nowhere: dict[Key, str] = {}
        for key in dict.fromkeys(keys):
            try:
                self._keys.target_scope(key)
                places[key] = []
            except RefusedId as reason:
                nowhere[key] = str(reason)
        certain = self._of_records(places)
        for key, place in certain.items():
            places[key].append(place)
        by_rule = {key: ruled for key in places if (ruled := self._by_rule(key)) is not None}
        for key, place in self._anywhere(by_rule, [key for key in places if key not in certain]):
            places[key].append(place)
        if primary == "target":
            places = self._standing(places, by_rule)
        found = {key: list(dict.fromkeys(known)) for key, known in places.items()}
        return Grouped(groups=tuple(self._keys.at(found, primary, most=self._most)), nowhere=nowhere)

    def _of_records(self, keys: Iterable[Key]) -> dict[Key, Place]:
        """The places of records of the source, as their payloads tell."""
        found: dict[Key, Place] = {}
        together: dict[tuple[str | None, IdKind], list[Key]] = defaultdict(list)
        for key in keys:
            together[self._keys.scope_of(key), key.kind].append(key)
        for (scope, kind), group in together.items():
            by_text = {key.text: key for key in group}
            for start in range(0, len(group), self._most):
                ids = IdColumn.of(kind, [key.id for key in group[start : start + self._most]])
                batch = self._throttle.source.call(partial(self._source.fetch, ids, scope)).batch
                for text, place in self._mapped(replace(batch, scope=scope).decoded()):
                    found[by_text[text]] = place
        return found

    def _mapped(self, batch: Batch) -> Iterator[tuple[str, Place]]:
        restored = self._mapper.mapping.ids.restore
        for row, text in enumerate(batch.ids.texts()):
            if restored is not None and restored.field not in batch.payloads[row]:
                continue  # rewritten by the application: what it was before still has to be found
            for part in self._mapper.map(batch.take([row])).batches:
                yield text, Place(part.scope, part.ids.kind, part.ids[0])

    def _by_rule(self, key: Key) -> Place | None:
        """Where a record without a kept id is, its scope aside."""
        try:
            kind, value = target_id(self._mapper.mapping.ids, key.id, key.kind, self._keys.scope_of(key))
        except RefusedId:
            return None
        return Place(None, kind, value)

    def _anywhere(self, by_rule: dict[Key, Place], lost: Sequence[Key]) -> Iterator[tuple[Key, Place]]:
        """Where keys may stand by their rule, and where records of the target say that they are `lost` ones."""
        scopes: Sequence[str | None] = self._throttle.target.call(self._target.scopes) or [None]
        yield from ((key, replace(place, scope=scope)) for key, place in by_rule.items() for scope in scopes)
        if not lost or self._mapper.mapping.ids.restore is None:
            return
        wanted = {(key.kind, key.text): key for key in lost}
        for scope in scopes:
            for kind in self._mapper.mapping.target_schema.ids.kinds:
                for batch in self._scan(scope, kind):
                    for row, original in enumerate(self._originals(batch)):
                        if original in wanted:
                            yield wanted[original], Place(scope, kind, batch.ids[row])

    def _scan(self, scope: str | None, kind: IdKind) -> Iterator[Batch]:
        throttle = replace(self._throttle, source=self._throttle.target)
        for batch in read_split(Source(self._target), Split(scope=scope, kind=kind), throttle=throttle):
            self._check()
            yield replace(batch, scope=scope).decoded()

    def _originals(self, batch: Batch) -> Iterator[tuple[IdKind, str] | None]:
        for row in range(len(batch)):
            try:
                ((kind, value),) = self._mapper.original_ids(batch.take([row]))
            except RefusedId:
                yield None
            else:
                yield kind, id_text(value)

    def _standing(self, places: dict[Key, list[Place]], by_rule: dict[Key, Place]) -> dict[Key, list[Place]]:
        """The one place of each key where the target holds a record; where it holds none, any place says so."""
        together: dict[tuple[str | None, IdKind], list[tuple[Key, Place]]] = defaultdict(list)
        for key, known in places.items():
            for place in known:
                together[place.scope, place.kind].append((key, place))
        there: dict[Key, list[Place]] = {}
        for (scope, kind), pairs in together.items():
            for start in range(0, len(pairs), self._most):
                some = pairs[start : start + self._most]
                ids = IdColumn.of(kind, dict.fromkeys(place.id for _, place in some))
                held = set(self._throttle.target.call(partial(self._target.fetch, ids, scope)).batch.ids.to_pylist())
                for key, place in some:
                    if place.id in held:
                        there[key] = [place]
        return {
            key: there.get(key) or known[:1] or [by_rule[key]]
            for key, known in places.items()
            if known or key in by_rule
        }
