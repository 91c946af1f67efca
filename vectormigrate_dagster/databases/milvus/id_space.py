"""Ids that lie between two ids, whether or not a record has them: where to ask next how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from threading import RLock
from typing import Protocol

from vectormigrate_dagster.model import Id

_SMALLEST = -(2**63)
_LARGEST = 2**63 - 1

_DIGITS = 1024
"""Most characters of a text that is made up, behind those that its neighbours have in common."""

_PLAIN = 0xD7FF
"""The last character but one before those that are no text by themselves (half surrogate pairs)."""


class IdSpace(Protocol):
    """All ids of one kind, in the order of the database."""

    def between(self, low: Id | None, high: Id | None, share: float) -> Id | None:
        """An id > `low` and < `high` at about `share` of the way, 0 to 1; None if there is none that can be said.

        `low` of None is the beginning of the space, `high` of None its end.
        """

    def below(self, known: Id) -> Id | None:
        """An id just below `known`, with nothing or little in between; None if there is none."""

    def ends(self, first: Id) -> Sequence[Id]:
        """Ids, ascending, between which the last id of a collection may be that begins with `first`."""

    def learn(self, known: Id) -> None:
        """Take into account what an id of the collection looks like."""


class Numbers:
    """Integers of 64 bits."""

    def between(self, low: Id | None, high: Id | None, share: float) -> Id | None:
        """See `IdSpace.between`."""
        first = int(low) + 1 if isinstance(low, int) else _SMALLEST
        last = int(high) - 1 if isinstance(high, int) else _LARGEST
        # A float has 53 bits, which is too few for a number of 64.
        place = first + (last - first) * round(share * 2**32) // 2**32
        return place if first <= last else None

    def below(self, known: Id) -> Id | None:
        """See `IdSpace.below`."""
        return known - 1 if isinstance(known, int) and known > _SMALLEST else None

    def ends(self, first: Id) -> Sequence[Id]:
        """See `IdSpace.ends`; twice as far each."""
        return [end for bits in range(64) if isinstance(first, int) and (end := first + 2**bits) < _LARGEST]

    def learn(self, known: Id) -> None:
        """See `IdSpace.learn`; there is nothing to learn of numbers."""


class Texts:
    """Texts in the order of their bytes, which in UTF-8 is that of their code points: the order of Python's texts.

    A text is read as a fraction, each character a digit. Digits are only those characters that ids were seen to have:
    halves of the whole of Unicode would lie far from all ids, and some of its characters no server lets one say.
    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._alphabet: list[str] = []
        self._rank: dict[str, int] = {}

    def between(self, low: Id | None, high: Id | None, share: float) -> Id | None:
        """See `IdSpace.between`."""
        with self._lock:
            return self._between(_text(low), None if high is None else _text(high), share)

    def below(self, known: Id) -> Id | None:
        """See `IdSpace.below`; what is before the last character."""
        return _text(known)[:-1] or None

    def ends(self, first: Id) -> Sequence[Id]:
        """See `IdSpace.ends`; each is behind all texts that have one character less in common with the first id."""
        text = _text(first)
        ends = [text[:length] + chr(ord(text[length]) + 1) for length in range(len(text)) if ord(text[length]) < _PLAIN]
        return ends[::-1]

    def learn(self, known: Id) -> None:
        """See `IdSpace.learn`."""
        with self._lock:
            new = set(_text(known)) - self._rank.keys()
            if new:
                self._alphabet = sorted({*self._alphabet, *new})
                self._rank = {character: rank for rank, character in enumerate(self._alphabet, start=1)}

    def _between(self, first: str, last: str | None, share: float) -> str | None:
        self.learn(first)
        self.learn(last or "")
        common = "" if last is None else _common(first, last)
        low_rest, high_rest = first[len(common) :], None if last is None else last[len(common) :]
        width = min(_DIGITS, max(8, len(low_rest) + 2, len(high_rest or "") + 2))
        start = self._number(low_rest, width)
        end = self._number(high_rest, width) if high_rest is not None else self._base**width
        made = self._text(start + (end - start) * round(share * 2**32) // 2**32, width)
        # Where a digit says "the text ends here" and others follow, there is no text but the ones beside it.
        for rest in (made, made + "".join(self._alphabet[:1])):
            text = common + rest
            if text > first and (last is None or text < last):
                return text
        return None

    @property
    def _base(self) -> int:
        return len(self._alphabet) + 1

    def _number(self, text: str, width: int) -> int:
        number = 0
        for character in text[:width]:
            number = number * self._base + self._rank[character]
        return number * int(self._base ** max(0, width - len(text)))

    def _text(self, number: int, width: int) -> str:
        digits = []
        for _ in range(width):
            number, digit = divmod(number, self._base)
            digits.append(digit)
        return "".join(self._alphabet[digit - 1] for digit in takewhile(bool, reversed(digits)))


def _text(value: Id | None) -> str:
    return "" if value is None else str(value)


def _common(one: str, other: str) -> str:
    """What two texts begin with."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
