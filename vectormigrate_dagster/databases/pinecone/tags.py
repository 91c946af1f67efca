"""A collection's marker in the tags of an index: compressed, and cut into pieces, because a tag is short.

An index has up to 20 tags with a key of up to 80 characters (letters, digits, '_', '-') and a value of up to 120
printable ASCII characters: https://docs.pinecone.io/guides/manage-data/manage-indexes#configure-index-tags
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from vectormigrate_dagster.errors import SchemaMismatch

MAX_TAGS = 20
MAX_VALUE = 120
_PREFIX = "vectormigrate-"


def tags_of(marker: Mapping[str, Any] | None, others: Mapping[str, str]) -> dict[str, str]:
    """The tags of a new index.

    Args:
        marker: what to keep; None keeps nothing.
        others: tags that it has besides.

    Raises:
        SchemaMismatch: there is not enough room.
    """
    if marker is None:
        return dict(others)
    packed = zlib.compress(json.dumps(marker, separators=(",", ":")).encode(), 9)
    text = base64.urlsafe_b64encode(packed).decode()
    pieces = [text[start : start + MAX_VALUE] for start in range(0, len(text), MAX_VALUE)]
    if len(pieces) + len(others) > MAX_TAGS:
        raise SchemaMismatch(
            f"what a way back needs takes {len(pieces)} tags, and Pinecone has {MAX_TAGS} for an index, of which "
            f"{len(others)} are used; map fewer vectors and keys under other names"
        )
    return {**others, **{f"{_PREFIX}{number:02}": piece for number, piece in enumerate(pieces)}}


def marker_of(tags: Mapping[str, str]) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """The marker in an index's tags, None if there is none that can be read; and the other tags."""
    ours = {key: value for key, value in tags.items() if _is_ours(key)}
    others = {key: value for key, value in tags.items() if not _is_ours(key)}
    text = "".join(ours[key] for key in sorted(ours))
    try:
        marker = json.loads(zlib.decompress(base64.urlsafe_b64decode(text))) if text else None
    except (ValueError, zlib.error):  # somebody changed a tag: they are his then
        return None, dict(tags)
    return marker, others


def _is_ours(key: str) -> bool:
    return key.startswith(_PREFIX) and key.removeprefix(_PREFIX).isdigit()
