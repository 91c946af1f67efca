"""Pinecone: serverless indexes of both kinds, and pod indexes by a list of their ids; see `database`."""
