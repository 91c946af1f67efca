"""How ids become ids of the target: which rule holds for which kind, decided once in the plan.

| rule | turns | into |
|---|---|---|
| copy | any kind | the same kind |
| text | u64, i64, uuid | canonical text: decimal, or lower-case dashed UUID |
| signed | u64 up to 2^63-1 | i64 |
| unsigned | i64 from 0 | u64 |
| parse | canonical text | u64 (decimal) or uuid, or i64 where the target has only that |
| uuid5 | any kind | UUIDv5 of the original, which is kept in one payload field as "kind:id" |

Only canonical spellings are parsed: "42" is 42, but "042", "+42" and upper-case, braced or dash-less UUIDs
are not. So no rule turns two ids into one: copy, text, signed and unsigned have an inverse; parse has one
on what it accepts; UUIDv5 is a 122-bit hash. Where a migration back restores originals, records that the
application wrote since keep their ids by these rules only as ids of kinds that no original has (`Kept.kinds`),
so the two cannot meet either. That is why nothing needs to remember ids across batches.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.mapping.profiler import CANONICAL_SIGNED, CANONICAL_UNSIGNED, CANONICAL_UUID
from vectormigrate_dagster.model import Id, IdKind, Payload, id_text

QDRANT_MIGRATION = "qdrant-migration"
"""What `mapping.ids.namespace` says to go on with a target that qdrant/migration filled, with the ids that it makes."""

_QDRANT_MIGRATION_NAMESPACE = uuid.NAMESPACE_URL
"""https://github.com/qdrant/migration/blob/main/cmd/utils.go: `arbitraryIDToUUID`"""

DEFAULT_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://vectormigrate.dev/ids")
"""The UUIDv5 namespace of mapped ids, fdefbfb2-97a5-5127-b760-5185937458f6; `mapping.ids.namespace` replaces it.

For a text id the hashed name is the id itself, so a target that another tool filled with
`uuid5(its namespace, id)` is continued by naming that namespace. qdrant/migration takes a text that is a UUID as it is,
and hashes others in the namespace of URLs: `QDRANT_MIGRATION`.
"""

KEEP_APART = (
    "move such records into a collection of their own and migrate that separately, or set mapping.ids.policy: uuid5 "
    "and mapping.ids.field to a new name, which gives every record a new id and brings no originals back"
)
"""What to do about records of the application that could take the ids of restored ones."""

_MAX_I64 = 2**63 - 1


class IdRule(StrEnum):
    """What happens to ids of one kind; the table is in this module's docstring."""

    COPY = "copy"
    TEXT = "text"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    PARSE = "parse"
    UUID5 = "uuid5"


class Kept(BaseModel):
    """How an earlier migration made the ids of what is now the source, and where it kept the originals.

    Args:
        kinds: kinds of the originals; ids of these kinds are restored, and only restored ones get them.
        scope_field: payload field that holds the scope which is part of the hashed name.
        scoped: the scope that a record is in is part of the hashed name.
        keeps_uuids: a text that is a canonical UUID was taken as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str
    namespace: uuid.UUID = DEFAULT_NAMESPACE
    tagged: bool = False
    kinds: tuple[IdKind, ...] = ()
    scope_field: str | None = None
    scoped: bool = False
    keeps_uuids: bool = False

    def scope_of(self, scope: str | None, payload: Payload) -> str | None:
        """The scope that is part of a record's hashed name."""
        if self.scope_field is not None:
            return payload.get(self.scope_field)
        return scope if self.scoped else None


class IdMapping(BaseModel):
    """What becomes of ids.

    Args:
        rules: source kind -> rule; ids of another kind are refused.
        target_kinds: the kinds that the target collection holds.
        field: payload field that keeps the original id where the rule is `uuid5`.
        namespace: UUIDv5 namespace.
        tagged: the hashed name starts with the id's kind, because the source mixes texts with other kinds.
        scoped: the hashed name holds the scope, because scopes with equal ids come together.
        keeps_uuids: with `uuid5`, a text that is a canonical UUID is taken as it is, and other spellings are refused,
            which would become the same (qdrant/migration).
        restore: records carry their original id as an earlier migration wrote it; it comes back, the field goes.
        max_bytes: longest text id of the target.
        pattern: regular expression that a whole text id of the target has to match; None is any text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: dict[IdKind, IdRule]
    target_kinds: tuple[IdKind, ...]
    field: str = "_source_id"
    namespace: uuid.UUID = DEFAULT_NAMESPACE
    tagged: bool = False
    scoped: bool = False
    restore: Kept | None = None
    max_bytes: int | None = None
    pattern: str | None = None
    keeps_uuids: bool = False

    @property
    def keeps_original(self) -> bool:
        """Whether some records get the payload field with their original id."""
        return IdRule.UUID5 in self.rules.values()


class RefusedId(ValueError):
    """One id has no place in the target; the message is the reason."""


def target_id(mapping: IdMapping, value: Id, kind: IdKind, scope: str | None = None) -> tuple[IdKind, Id]:
    """The id that a source id gets in the target, as long as nothing is restored from payloads.

    Raises:
        RefusedId: the target cannot hold it.
    """
    rule = mapping.rules.get(kind)
    if rule is None:
        raise RefusedId(f"{kind.value} ids have no place in the target; the plan saw none, plan again")
    if rule is IdRule.UUID5:
        if mapping.keeps_uuids and is_other_uuid(value):
            raise RefusedId(f"id '{value}' is another spelling of a UUID, and would become the same as that")
        scope = scope if mapping.scoped else None
        made = mapped_uuid(
            mapping.namespace, value, kind, scope, tagged=mapping.tagged, keeps_uuids=mapping.keeps_uuids
        )
        return (IdKind.UUID, made) if IdKind.UUID in mapping.target_kinds else (IdKind.TEXT, str(made))
    return _native(mapping, rule, value, kind)


def _native(mapping: IdMapping, rule: IdRule, value: Id, kind: IdKind) -> tuple[IdKind, Id]:
    if rule is IdRule.PARSE:
        return parse(str(value), mapping.target_kinds)
    if rule is IdRule.SIGNED:
        if int(value) > _MAX_I64:
            raise RefusedId(f"id {value} is greater than {_MAX_I64}, the greatest that the target holds")
        return IdKind.I64, value
    if rule is IdRule.UNSIGNED:
        if int(value) < 0:
            raise RefusedId(f"id {value} is negative, the target holds unsigned ids")
        return IdKind.U64, value
    if rule is IdRule.TEXT or kind is IdKind.TEXT:
        text = id_text(value)
        size = len(text.encode("utf-8", "surrogatepass"))
        if mapping.max_bytes is not None and size > mapping.max_bytes:
            raise RefusedId(f"the id has {size} bytes, the target holds {mapping.max_bytes}")
        if mapping.pattern is not None and re.fullmatch(mapping.pattern, text, re.DOTALL) is None:
            raise RefusedId(f"the id {text[:60]!r} cannot be spelt in the target (pattern {mapping.pattern})")
        return IdKind.TEXT, text
    return kind, value


def parse(text: str, kinds: tuple[IdKind, ...]) -> tuple[IdKind, Id]:
    """The number or UUID that a canonical text stands for.

    Raises:
        RefusedId: the text is neither, or the target has no such ids.
    """
    if IdKind.UUID in kinds and re.fullmatch(CANONICAL_UUID, text, re.ASCII):
        return IdKind.UUID, uuid.UUID(text)
    if IdKind.U64 in kinds and re.fullmatch(CANONICAL_UNSIGNED, text, re.ASCII) and int(text) < 2**64:
        return IdKind.U64, int(text)
    if (
        IdKind.I64 in kinds
        and re.fullmatch(CANONICAL_SIGNED, text, re.ASCII)
        and -_MAX_I64 - 1 <= int(text) <= _MAX_I64
    ):
        return IdKind.I64, int(text)
    names = " or ".join(kind.value for kind in kinds)
    raise RefusedId(f"id '{text}' is not the canonical text of a {names} id, and the target holds no other")


def namespace_of(text: str | None) -> tuple[uuid.UUID, bool]:
    """The UUIDv5 namespace that `mapping.ids.namespace` names, and whether texts that are UUIDs are taken as they are.

    Raises:
        ValueError: it names none.
    """
    if text == QDRANT_MIGRATION:
        return _QDRANT_MIGRATION_NAMESPACE, True
    return (DEFAULT_NAMESPACE if text is None else uuid.UUID(text)), False


def is_other_uuid(value: Id) -> bool:
    """Whether a text is a UUID that is not spelt canonically."""
    if not isinstance(value, str) or re.fullmatch(CANONICAL_UUID, value, re.ASCII):
        return False
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def mapped_uuid(
    namespace: uuid.UUID, value: Id, kind: IdKind, scope: str | None, *, tagged: bool, keeps_uuids: bool = False
) -> uuid.UUID:
    """The UUIDv5 that stands for an id; the same in every process and at every time.

    Args:
        scope: part of the name, where it keeps equal ids of several scopes apart.
        tagged: the kind is part of the name.
        keeps_uuids: a text that is a canonical UUID stands for itself.
    """
    if keeps_uuids and isinstance(value, str) and re.fullmatch(CANONICAL_UUID, value, re.ASCII):
        return uuid.UUID(value)
    name = f"{kind.value}:{id_text(value)}" if tagged else id_text(value)
    if scope is not None:
        # A JSON list is unambiguous whatever characters scope and id hold.
        name = json.dumps([scope, name], ensure_ascii=False)
    digest = hashlib.sha1(namespace.bytes + name.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5)


def mark(value: Id, kind: IdKind) -> str:
    """What the original-id field holds: "kind:id"."""
    return f"{kind.value}:{id_text(value)}"


def unmark(marked: object) -> tuple[IdKind, Id] | None:
    """The original id that a value of the original-id field stands for; None if it is not one."""
    if not isinstance(marked, str):
        return None
    kind, colon, text = marked.partition(":")
    if not colon or kind not in set(IdKind):
        return None
    try:
        value = IdKind(kind).decode(text)
    except ValueError:
        return None
    return (IdKind(kind), value) if id_text(value) == text else None
