"""Qdrant, as a server over REST or gRPC, and embedded (local mode)."""
