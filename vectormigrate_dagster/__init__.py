"""Move a collection from one vector database to another while the application keeps running."""
