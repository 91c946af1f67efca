"""Numbers in sentences, as people write them: '1 change is', '1,200 changes are'."""

from __future__ import annotations

_IRREGULAR = {"is": "are", "has": "have", "was": "were"}


def counted(number: int, noun: str) -> str:
    """A number and what there are so many of.

    Args:
        number: how many.
        noun: in the singular, of those that only take an s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def agreeing(number: int, verb: str) -> str:
    """A verb in the form that goes with so many.

    Args:
        number: how many.
        verb: as it goes with one: 'is', 'waits'.
    """
    return verb if number == 1 else _IRREGULAR.get(verb, verb.removesuffix("s"))
