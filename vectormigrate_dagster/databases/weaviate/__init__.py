"""Weaviate, as a server."""
