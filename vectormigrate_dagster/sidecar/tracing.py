"""Traces: the SDK of MCP opens a span for each call; this sends them where the environment says, if it says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from vectormigrate_dagster.errors import ConfigurationError

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own; https://opentelemetry.io/docs/specs/otel/protocol/exporter/ has the others."""

_SERVICE = "vectormigrate-sidecar"


@contextmanager
def traced(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Export spans for the length of a block, if an endpoint is set; what is left is sent at its end.

    Raises:
        ConfigurationError: an endpoint is set, and the packages of the extra `otel` are missing.
    """
    endpoint = next((name for name in ENDPOINT_VARIABLES if environ.get(name)), None)
    if endpoint is None:
        yield
        return
    try:
        from opentelemetry import trace  # noqa: PLC0415  (only those who trace have these packages)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"{endpoint} is set, and a package for it is missing ({error.name}); "
            "install 'vectormigrate-dagster[otel]', or unset the variable"
        ) from error
    about = {"service.name": _SERVICE, "service.version": version("vectormigrate-dagster")}
    provider = TracerProvider(resource=Resource.create(about))  # OTEL_RESOURCE_ATTRIBUTES may say more
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
