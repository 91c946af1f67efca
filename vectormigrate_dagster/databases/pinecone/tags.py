"""A collection's marker in the tags of an index: compressed, and cut into pieces, because a tag is short.

An index has up to 20 tags with a key of up to 80 characters (letters, digits, '_', '-') and a value of up to 120
printable ASCII characters: https://docs.pinecone.io/guides/manage-data/manage-indexes#configure-index-tags
"""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)

MAX_TAGS = 20
MAX_VALUE = 120
_PREFIX = "vectormigrate-"


def tags_of(marker: Mapping[str, Any] | None, others: Mapping[str, str]) -> dict[str, str]:
    """The tags of a new index.

    Args:
        marker: what to keep; None keeps nothing.
        others: tags that it has besides.

    Returns:
        All of them; without the marker, and with a word in the log, where there is not enough room. The records are
        worth more than the way back, and the plan tells of markers that are long (`Capabilities.max_marker_bytes`).
    """
    if marker is None:
        return dict(others)
    packed = zlib.compress(json.dumps(marker, separators=(",", ":")).encode(), 9)
    text = base64.urlsafe_b64encode(packed).decode()
    pieces = [text[start : start + MAX_VALUE] for start in range(0, len(text), MAX_VALUE)]
    if len(pieces) + len(others) > MAX_TAGS:
        _log.warning(
            "what a migration back needs takes %s tags, and Pinecone has %s for an index, of which %s are used: it is "
            "left out, and a migration back has to be told what was renamed",
            len(pieces),
            MAX_TAGS,
            len(others),
        )
        return dict(others)
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
