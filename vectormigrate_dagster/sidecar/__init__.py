"""The server beside Dagster that assistants and scripts ask: MCP and JSON-RPC over one table of functions."""
