"""Addresses of servers as people write them into migration files."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|key|token|password|passwd|pwd|secret|authorization)$", re.IGNORECASE
)
"""What settings that hold a secret are called."""

_SCHEMES = ("http", "https")


def split_address(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        ValueError: it is none; the message does not repeat it, as it may hold a password.
    """
    try:
        address = urlsplit(url)
        _ = address.port
    except ValueError as error:
        raise ValueError("this is not an address such as http://localhost:6333") from error
    return address


def secrets_in_query(address: SplitResult) -> bool:
    """Whether the part behind `?` names a key or a password."""
    return any(SECRET_NAME.search(name) for name, _ in parse_qsl(address.query, keep_blank_values=True))


def plain_address(url: str, instead: str = "") -> str:
    """The address of a server, as it is, if it is one and holds no secret.

    Args:
        url: what to look at.
        instead: what may be given in place of an address, to end a message with.

    Raises:
        ValueError: it is no address, or holds a secret; the message does not repeat it.
    """
    address = split_address(url)
    if address.scheme not in _SCHEMES or not address.hostname:
        raise ValueError(f"give an address such as http://localhost:6333{instead}")
    if address.username is not None or address.password is not None:
        raise ValueError("the address holds user info; remove it and name a variable in 'api_key_env'")
    if secrets_in_query(address):
        raise ValueError("the address holds a key in its query; remove it and name a variable in 'api_key_env'")
    return url
