"""Keys that somebody wrote into a migration file; none of the messages repeats one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vectormigrate_dagster.databases.address import SECRET_NAME
from vectormigrate_dagster.migration_file.document import KeyPath

__all__ = ["find_secrets", "may_be_secret"]

_LOOKS_LIKE_KEY = re.compile(
    r"""
    pcsk_\w+                                    # Pinecone
    | sk-[\w-]{16,}                             # OpenAI and others
    | gh[pousr]_\w{20,} | github_pat_\w+        # GitHub
    | AKIA[0-9A-Z]{16}                          # Amazon
    | eyJ[\w-]+\.[\w-]+\.[\w-]*                 # JSON Web Token: Qdrant and Weaviate Cloud
    | (?:Bearer|Basic)\s+\S+                    # a whole Authorization header
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LOOKS_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])(?:[0-9a-f]{24,}|(?=.*[a-z])(?=.*[A-Z])[0-9A-Za-z]{20,})")
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*@", re.IGNORECASE)
_FIELD_NAMES = {("mapping", "rename"), ("mapping", "types"), ("mapping", "drop")}
"""Parts of the file whose words are fields of the collection, where `token` is an honest name."""

_IN_THE_FILE = "this looks like a key, and a key must not be in the file; name an environment variable in 'api_key_env'"
_A_KEY = "a key must not be in the file; put it into an environment variable and its name into 'api_key_env'"
_IN_THE_ADDRESS = "the address holds user info; remove it and name a variable in 'api_key_env'"
_NOT_A_NAME = "this looks like a key; give the NAME of the environment variable that holds it"


def find_secrets(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield where a secret seems to be, and what to do instead."""
    if path in _FIELD_NAMES:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if SECRET_NAME.search(key) and not isinstance(inner, dict):
                yield (*path, key), _A_KEY
            else:
                yield from find_secrets(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from find_secrets(inner, (*path, position))
    elif isinstance(value, str):
        names_a_variable = bool(path) and str(path[-1]).endswith("_env")
        if names_a_variable and (_LOOKS_LIKE_KEY.fullmatch(value) or _LOOKS_RANDOM.fullmatch(value)):
            yield path, _NOT_A_NAME
        elif _LOOKS_LIKE_KEY.fullmatch(value):
            yield path, _IN_THE_FILE
        elif _USER_INFO.match(value) and path[-1:] != ("url",):  # the model checks `url` itself
            yield path, _IN_THE_ADDRESS


def may_be_secret(path: KeyPath) -> bool:
    """Whether the value at `path` must not be repeated in a message."""
    return any(isinstance(key, str) and (SECRET_NAME.search(key) or key.endswith(("_env", "url"))) for key in path)
