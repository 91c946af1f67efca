"""Imported once, before processes are forked (see `prepared`): so that one starts in hundredths of a second."""

import functools
import gc
import ssl
from importlib import import_module

import certifi

from vectormigrate_dagster_tests import storage_versions

for module in (
    # What Dagster's storage in a folder is made of, which it names by text.
    "dagster._core.launcher.default_run_launcher",
    "dagster._core.run_coordinator.queued_run_coordinator",
    "dagster._core.scheduler.scheduler",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._daemon.controller",
    "encodings.ascii",
    "faiss",
    "grpc._channel",
    "grpc._interceptor",
    "grpc.experimental",
    "grpc._server",
    "h11",
    "h2.connection",
    "httpcore",
    "milvus_lite.adapter.grpc.server",
    "milvus_lite.server_manager",
    "pinecone._client",
    "pinecone._internal.http_client",
    "pinecone._legacy.async_req",
    "pinecone.client.indexes",
    "pinecone.index",
    "pinecone.models.pagination",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.vendored.version",
    "pymilvus",
    "psycopg2",
    "pytest",  # each process imports the program that began the run once more
    "qdrant_client",
    "weaviate",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.sqlite",
    "vectormigrate_dagster.cli.progress",
    "vectormigrate_dagster.cli.render",
    *(f"vectormigrate_dagster.databases.{name}.database" for name in ("milvus", "pinecone", "qdrant", "weaviate")),
    *(f"vectormigrate_dagster.services.{name}" for name in ("lookup", "migrate", "rollback", "status", "validate")),
    "vectormigrate_dagster_tests.live.chaos.application",
    "vectormigrate_dagster_tests.live.chaos.workers",
):
    import_module(module)

storage_versions.read_once()
# Clients read the machine's certificates when they are made, also for an address that needs none: 20 ms each time.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
ssl.create_default_context(cafile=certifi.where())

gc.collect()
gc.freeze()  # what is not looked at by the collector is not copied in each process
