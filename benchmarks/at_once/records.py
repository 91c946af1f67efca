"""What all servers serve."""

from __future__ import annotations

from typing import Any

import numpy as np

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")
COLLECTION = "things"


def payload(number: int) -> dict[str, Any]:
    """A text, an integer, a float, a truth value and a list of texts."""
    return {
        "title": f"The {number}th thing, which is of {WORDS[number % 5]} make",
        "count": number * 7919 % 1_000_003,
        "price": number / 7,
        "sold": number % 3 == 0,
        "tags": [WORDS[number % 5], WORDS[number % 4], f"tag-{number % 1000}"],
    }


class Records:
    """The records: numbers from 0 are their ids."""

    def __init__(self, count: int, dim: int) -> None:
        self.count = count
        self.vectors = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
