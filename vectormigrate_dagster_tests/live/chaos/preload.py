"""Imported once, before processes are forked: so that one starts in hundredths of a second."""

import functools
import gc
import ssl
from importlib import import_module

import certifi

for module in (
    "encodings.ascii",
    "grpc._channel",
    "grpc._interceptor",
    "grpc.experimental",
    "h11",
    "h2.connection",
    "httpcore",
    "pinecone._client",
    "pinecone._internal.http_client",
    "pinecone._legacy.async_req",
    "pinecone.client.indexes",
    "pinecone.index",
    "pinecone.models.pagination",
    "pyarrow.pandas_compat",
    "pyarrow.vendored.version",
    "pymilvus",
    "psycopg2",
    "pytest",  # each process imports the program that began the run once more
    "qdrant_client",
    "weaviate",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.dialects.sqlite",
    *(f"vectormigrate_dagster.databases.{name}.database" for name in ("milvus", "pinecone", "qdrant", "weaviate")),
    "vectormigrate_dagster_tests.live.chaos.application",
    "vectormigrate_dagster_tests.live.chaos.workers",
):
    import_module(module)

# Clients read the machine's certificates when they are made, also for an address that needs none: 20 ms each time.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]
ssl.create_default_context(cafile=certifi.where())

gc.collect()
gc.freeze()  # what is not looked at by the collector is not copied in each process
