"""The verb that serves assistants and scripts."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, verb
from vectormigrate_dagster.errors import ConfigurationError

if TYPE_CHECKING:
    from vectormigrate_dagster.sidecar.principal import Scope

__all__ = ["serve"]

_EXTRA = ("mcp", "cachetools", "prometheus_client")


@verb
@click.option(
    "--addr", default=":8080", metavar="[HOST]:PORT", help="Where to listen.  [default: 127.0.0.1, port 8080]"
)
@click.option(
    "--api-key", metavar="KEY", help="A key that may do all; '-' reads it.  [default: $VECTORMIGRATE_API_KEY]"
)
@click.option("--stdio", is_flag=True, help="Serve MCP on standard input and output instead.")
@click.option("--keygen", metavar="NAME", help="Make a key, print it and its line for the key file, and end.")
@click.option(
    "--scope", type=click.Choice(("read", "write")), default="read", help="With --keygen: what it may.  [default: read]"
)
def serve(settings: Settings, *, addr: str, api_key: str | None, stdio: bool, keygen: str | None, scope: Scope) -> None:
    """Answer assistants (MCP) and scripts (JSON-RPC) from Dagster's storage."""
    if keygen is not None:
        _show_new_key(keygen, scope)
        return
    _require_extra()
    from vectormigrate_dagster.sidecar import serving
    from vectormigrate_dagster.sidecar.audit import log_to
    from vectormigrate_dagster.sidecar.settings import Settings as Served

    if stdio and api_key is not None:
        raise click.UsageError("--api-key is for HTTP; with --stdio nobody else can reach the server")
    host, port = _address(addr)
    served = Served.from_environment(os.environ, host=host, port=port, token=_key(api_key))
    # Lines of the log go to standard error; with --stdio the other stream is the protocol's.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    log_to(sys.stderr)
    context = settings.context()
    if stdio:
        serving.serve_stdio(context, served)
        return
    settings.note(f"MCP at http://{host}:{port}/mcp, JSON-RPC at http://{host}:{port}/ (Ctrl-C ends it)")
    serving.serve(context, served)


def _address(text: str) -> tuple[str, int]:
    """Host and port; without a host, this machine alone reaches it."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError(f"--addr '{text}' is not [HOST]:PORT, as in :8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def _key(given: str | None) -> str | None:
    return sys.stdin.readline().strip() if given == "-" else given


def _show_new_key(name: str, scope: Scope) -> None:
    from vectormigrate_dagster.sidecar.keys import generate

    token, key = generate(name, scope)
    click.echo(f"key, for its user alone: {token}", err=True)
    click.echo(key.line)


def _require_extra() -> None:
    """Refuse to serve without what only serving needs.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    from importlib.util import find_spec

    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"serving needs {', '.join(missing)}; install it with: pip install 'vectormigrate-dagster[mcp]'"
        )
