"""Servers that cost nothing: they answer reads with pages encoded before, and acknowledge writes without a look.

    python -m benchmarks.at_once qdrant --records 20000 --dim 768

A child process of `benchmarks.client`, whose own CPU time then has nothing of a server's in it. Each database has a
module with functions that start its server; `__main__` knows them all.
"""
