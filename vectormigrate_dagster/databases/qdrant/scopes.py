"""Shard keys as the text of a scope: a key is a keyword or a number, and `7` and `"7"` are two keys.

A number is its digits; a keyword is itself, in JSON quotes if it would be taken for a number or for quotes.
https://qdrant.tech/documentation/guides/distributed_deployment/#user-defined-sharding
"""

from __future__ import annotations

import json
import re

ShardKey = int | str

_LARGEST = 2**64 - 1
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")


def scope_of(key: ShardKey) -> str:
    """The scope that is called after a shard key."""
    if isinstance(key, int):
        return str(key)
    return json.dumps(key, ensure_ascii=False) if key.startswith('"') or _is_number(key) else key


def shard_key_of(scope: str | None) -> ShardKey | None:
    """The shard key that a scope is called after; None if there is no scope."""
    if scope is None:
        return None
    if _is_number(scope):
        return int(scope)
    if scope.startswith('"') and len(scope) > 1 and scope.endswith('"'):
        try:
            key = json.loads(scope)
        except ValueError:
            return scope
        return key if isinstance(key, str) and scope_of(key) == scope else scope
    return scope


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and int(text) <= _LARGEST
