"""The kinds of record ids, without Arrow, which `ids` brings: an application that writes imports no more than this."""

from __future__ import annotations

import uuid
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Id", "IdKind", "id_text"]

Id = int | uuid.UUID | str


class IdKind(StrEnum):
    """The kinds of id that the four databases know."""

    U64 = "u64"
    I64 = "i64"
    UUID = "uuid"
    TEXT = "text"

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of a column of this kind."""
        from vectormigrate_dagster.model.ids import ARROW_TYPES

        return ARROW_TYPES[self]

    def decode(self, text: str) -> Id:
        """Read an id back from its text form (see `id_text`).

        Raises:
            ValueError: `text` is not an id of this kind.
        """
        if self is IdKind.TEXT:
            return text
        if self is IdKind.UUID:
            return uuid.UUID(text)
        value = int(text)
        low, high = (0, 2**64 - 1) if self is IdKind.U64 else (-(2**63), 2**63 - 1)
        if not low <= value <= high:
            raise ValueError(f"{text} is outside the range of {self.value} ids")
        return value


def id_text(value: Id) -> str:
    """The text form of an id: decimal, lower-case dashed UUID, or the text itself."""
    return str(value)
