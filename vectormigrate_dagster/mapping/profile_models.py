"""What real records hold, in numbers: a profile is data, and goes into the plan."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.model import IdKind


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FieldProfile(_Counts):
    """What one top-level payload key holds. Limits are of values at any depth, types of the value itself.

    Args:
        types: JSON type (null, bool, int, float, text, list, object) -> records.
        absent: records without the key.
        min_int, max_int: smallest and greatest int.
        beyond_double: ints that a float64 cannot hold exactly, beyond 2^53.
        beyond_int64: ints outside int64.
        inexact_float32: finite floats that a float32 cannot hold exactly.
        non_finite: NaN and infinite floats.
        max_text_bytes: longest text in UTF-8 bytes.
        elements: JSON type of list elements -> lists that hold such an element.
        mixed_lists: lists that hold elements of several types.
        lists: what all elements of a list are (a JSON type, "big int" where an int is beyond 2^53, "mixed", "empty")
            -> records.
        big_ints: records whose value itself is an int beyond 2^53.
        whole: records whose value itself is a float that an int within 2^53 could be.
        negative_zeros: records whose value itself is -0.0.
        max_list: longest list.
        depth: deepest nesting; 1 is a list or object of plain values.
        marked_ids: kind -> texts that look like an original id that we kept ("text:abc").
    """

    types: dict[str, int] = Field(default_factory=dict)
    absent: int = 0
    min_int: int | None = None
    max_int: int | None = None
    beyond_double: int = 0
    beyond_int64: int = 0
    inexact_float32: int = 0
    non_finite: int = 0
    max_text_bytes: int = 0
    elements: dict[str, int] = Field(default_factory=dict)
    mixed_lists: int = 0
    lists: dict[str, int] = Field(default_factory=dict)
    big_ints: int = 0
    whole: int = 0
    negative_zeros: int = 0
    max_list: int = 0
    depth: int = 0
    marked_ids: dict[str, int] = Field(default_factory=dict)

    @property
    def present(self) -> int:
        """Records that have the key."""
        return sum(self.types.values())

    def describe(self) -> str:
        """The types that were seen, for people: "int, null"."""
        return ", ".join(sorted(self.types)) or "never seen"


class VectorProfile(_Counts):
    """What one vector holds; counts are of records.

    Args:
        non_unit: dense vectors whose norm is neither 1 (within `UNIT_TOLERANCE`) nor 0.
        zero: dense vectors of zeros only, and sparse vectors without an entry.
        non_finite: vectors with a NaN or infinite component.
        negative: sparse vectors with a weight below zero.
        max_nnz: most entries of a sparse vector.
        min_dim, max_dim: components of dense vectors.
    """

    present: int = 0
    missing: int = 0
    non_unit: int = 0
    zero: int = 0
    non_finite: int = 0
    negative: int = 0
    max_nnz: int = 0
    min_dim: int | None = None
    max_dim: int | None = None


class IdProfile(_Counts):
    """What ids hold.

    Args:
        kinds: id kind -> records.
        min_int, max_int: of numeric ids.
        max_bytes: longest text form in UTF-8 bytes.
        unsigned, signed, uuids: text ids that are canonical decimals (unsigned, signed) or canonical UUIDs.
        other_uuids: text ids that are a UUID in another spelling.
        in_scopes: ids that are in several scopes; None if there were too many ids to tell.
        odd: text ids by what is unusual about them: "" empty, or the example of a character that they hold (see
            `profiler.ODD_IDS`).
        collisions: ids whose number or UUID another id of the same scope has too, in another spelling or kind.
    """

    kinds: dict[IdKind, int] = Field(default_factory=dict)
    min_int: int | None = None
    max_int: int | None = None
    max_bytes: int = 0
    unsigned: int = 0
    signed: int = 0
    uuids: int = 0
    other_uuids: int = 0
    in_scopes: int | None = 0
    odd: dict[str, int] = Field(default_factory=dict)
    collisions: int = 0

    @property
    def text(self) -> int:
        """Records with a text id."""
        return self.kinds.get(IdKind.TEXT, 0)


class Profile(_Counts):
    """What the profiled records hold.

    Args:
        records: how many were read.
        complete: all records of the source were read, so an absence is proven.
        total: records that the source holds.
        scopes: scope -> records.
        unpacked: records in whose JSON field an earlier migration kept values.
        repeated: records where a key stands both there and outside.
    """

    records: int = 0
    complete: bool = False
    total: int = 0
    ids: IdProfile = Field(default_factory=IdProfile)
    vectors: dict[str, VectorProfile] = Field(default_factory=dict)
    fields: dict[str, FieldProfile] = Field(default_factory=dict)
    scopes: dict[str, int] = Field(default_factory=dict)
    unpacked: int = 0
    repeated: int = 0
    max_payload_bytes: int = 0
    seconds: float = 0.0

    def of(self, count: int, unit: str = "records") -> str:
        """A count in words: "37 of 10,000 sampled records"."""
        return (
            f"{count:,} of {self.records:,} {unit}"
            if self.complete
            else f"{count:,} of {self.records:,} sampled {unit}"
        )
