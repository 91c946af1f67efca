"""Where in the target the records of a split are, if they keep their order there."""

from __future__ import annotations

from vectormigrate_dagster.mapping.ids import IdMapping, IdRule
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.model import Id, IdKind, Split, id_text

_MAX_I64 = 2**63 - 1
_WHOLE_SCOPES = (ScopeRule.NONE, ScopeRule.NATIVE, ScopeRule.SINGLE)
"""Rules by which the records of one scope become one scope, and those of no other."""


def target_split(ids: IdMapping, scopes: ScopeMapping, split: Split, scope: str | None) -> Split | None:
    """The part of the target's id space for a split of the source: its records and no others, in the same order.

    The parts of all splits of a scope and kind tile the id space of a scope and kind of the target, so that every
    record there is in one of them. None where there is no such part: ids change their order, records of several splits
    come between each other, or nothing of the split can be in the target.

    Args:
        ids: what becomes of ids.
        scopes: what becomes of scopes.
        split: a split of the source.
        scope: what its scope becomes.
    """
    kind = _kept_kind(ids, split.kind)
    if kind is None or scopes.rule not in _WHOLE_SCOPES:
        return None
    after, last = split.lower, split.upper
    if kind is not split.kind and kind is IdKind.I64:
        if after is not None and int(after) >= _MAX_I64:
            return None
        last = None if last is not None and int(last) >= _MAX_I64 else last
    elif kind is not split.kind and kind is IdKind.U64:
        if last is not None and int(last) < 0:
            return None
        after = None if after is not None and int(after) < 0 else after
    return Split(scope=scope, kind=kind, after=_text(after), last=_text(last), records=split.records)


def _kept_kind(ids: IdMapping, kind: IdKind) -> IdKind | None:
    """The kind that ids of a kind become, if their order stays and ids of no other kind become that kind."""
    if ids.restore is not None:
        return None
    made = [_made(rule, source) for source, rule in ids.rules.items()]
    own = _made(ids.rules.get(kind), kind)
    orderly = ids.rules.get(kind) in (IdRule.COPY, IdRule.SIGNED, IdRule.UNSIGNED) or kind is IdKind.UUID
    if own is None or None in made or made.count(own) > 1 or not orderly:
        return None
    return own


def _made(rule: IdRule | None, kind: IdKind) -> IdKind | None:
    """What a rule makes of a kind; None if that differs from id to id, or is a hash."""
    kinds = {
        IdRule.COPY: kind,
        IdRule.TEXT: IdKind.TEXT,
        IdRule.SIGNED: IdKind.I64,
        IdRule.UNSIGNED: IdKind.U64,
    }
    return None if rule is None else kinds.get(rule)


def _text(value: Id | None) -> str | None:
    return None if value is None else id_text(value)
