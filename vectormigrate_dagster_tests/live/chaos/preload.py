"""Imported once, before processes are forked: so that one starts in hundredths of a second."""

from importlib import import_module

for module in (
    "grpc._channel",
    "grpc.experimental",
    "h11",
    "h2.connection",
    "httpcore",
    "pinecone._client",
    "pinecone.index",
    "pymilvus",
    "qdrant_client",
    "weaviate",
    "sqlalchemy.dialects.sqlite",
    *(f"vectormigrate_dagster.databases.{name}.database" for name in ("milvus", "pinecone", "qdrant", "weaviate")),
    "vectormigrate_dagster_tests.live.chaos.application",
    "vectormigrate_dagster_tests.live.chaos.workers",
):
    import_module(module)
