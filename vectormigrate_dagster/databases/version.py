"""What servers call their version."""

from __future__ import annotations

import re

Version = tuple[int, int]
"""Major and minor version of a server."""


def version_of(text: str) -> Version:
    """Major and minor version out of what a server calls its version.

    Raises:
        ValueError: it is none.
    """
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        raise ValueError(f"'{text}' is not a version")
    return int(match[1]), int(match[2])
