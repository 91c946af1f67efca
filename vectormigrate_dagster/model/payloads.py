"""Payloads of a batch, as dictionaries or in the octets that they came in until somebody looks at one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from vectormigrate_dagster.model.vectors import Indices

Payload = dict[str, Any]
"""One record's payload: JSON values with int and float kept apart, as the database gave them."""


@dataclass(frozen=True, eq=False)
class PayloadForm:
    """How a database writes payloads.

    It can say integers from -2^63 to 2^63 - 1, doubles, texts, truth values, null, lists and objects, and nothing else;
    keys stand in it as UTF-8.

    Args:
        name: of the form, for people.
        decode: makes a payload of its octets; raises `DatabaseError` if they are damaged.
    """

    name: str
    decode: Callable[[bytes], Payload]


class EncodedPayloads(Sequence[Payload]):
    """n payloads that are decoded when they are looked at, each time anew; otherwise as good as a list of them.

    Whoever looks at all of them more than once makes a list first (`Batch.decoded`). A target that writes `form` may
    take the octets as they are (`octets_in`). They may be damaged, which is noticed when they are decoded or written.
    """

    def __init__(self, form: PayloadForm, octets: Sequence[bytes]) -> None:
        self.form = form
        self.octets = octets

    def __len__(self) -> int:
        return len(self.octets)

    def __iter__(self) -> Iterator[Payload]:
        return map(self.form.decode, self.octets)

    @overload
    def __getitem__(self, index: int) -> Payload: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedPayloads: ...
    def __getitem__(self, index: int | slice) -> Payload | EncodedPayloads:
        if isinstance(index, slice):
            return EncodedPayloads(self.form, self.octets[index])
        return self.form.decode(self.octets[index])

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, EncodedPayloads) else other)

    __hash__ = None  # type: ignore[assignment]  # payloads are data, never a key

    def __repr__(self) -> str:
        return repr(list(self))

    def may_hold(self, key: str) -> bool:
        """Whether one of them may have `key`; False if it surely has not."""
        name = key.encode()
        return any(name in octets for octets in self.octets)

    def take(self, indices: Indices) -> EncodedPayloads:
        """The payloads at `indices`, in that order."""
        return EncodedPayloads(self.form, [self.octets[i] for i in indices])


def taken(payloads: Sequence[Payload], indices: Indices) -> Sequence[Payload]:
    """The payloads at `indices`, in that order."""
    return payloads.take(indices) if isinstance(payloads, EncodedPayloads) else [payloads[i] for i in indices]


def octets_in(form: PayloadForm, payloads: Sequence[Payload]) -> Sequence[bytes] | None:
    """The octets of payloads that are in this form already; None if they are not."""
    return payloads.octets if isinstance(payloads, EncodedPayloads) and payloads.form is form else None
