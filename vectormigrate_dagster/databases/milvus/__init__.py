"""Milvus, as a server and embedded (Milvus Lite)."""
