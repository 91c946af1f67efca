"""gRPC channels of our own, where a client has none that takes octets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vectormigrate_dagster.errors import ConfigurationError

# Pages and requests are bounded by us, so no limit is set on this side.
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # When to call again is for `transfer.throttle` to say.
    ("grpc.enable_retries", 0),
    # A server that is back is tried again within a second, not after a back-off of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A peer that vanished without a word is noticed while a call waits for it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def opened(target: str, *, secure: bool, ca_file: Path | None) -> Any:
    """A channel; nothing is called yet.

    Args:
        target: host and port: https://grpc.github.io/grpc/core/md_doc_naming.html.
        secure: it is reached through TLS.
        ca_file: certificates that the server's is checked against (PEM); without it the usual public ones.

    Raises:
        ConfigurationError: there is no such file.
    """
    import grpc

    root = None if ca_file is None else certificate(ca_file).read_bytes()
    if not secure:
        return grpc.insecure_channel(target, options=_OPTIONS)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root), options=_OPTIONS)


def certificate(ca_file: Path) -> Path:
    """The file itself.

    Raises:
        ConfigurationError: there is none.
    """
    if not ca_file.is_file():
        raise ConfigurationError(f"there is no certificate '{ca_file}' (ca_file)")
    return ca_file


def bracketed(host: str | None) -> str:
    """A host as it stands before a port: an IPv6 address keeps its brackets."""
    return f"[{host}]" if host is not None and ":" in host else host or ""
