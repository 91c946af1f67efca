"""Stand-ins for servers that no package index carries."""
