"""Print every mutation in every direction: what must notice it, what did, and how it was done.

It runs the tests that CI runs in part, at full length; stand-ins and the Milvus server are those of the tests.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    os.environ.setdefault("VECTORMIGRATE_MUTATIONS", "all")
    tests = Path(__file__).parent.parent / "test_mutations_in_all_directions.py"
    sys.exit(pytest.main([str(tests), "--quiet", "-n", "0", *sys.argv[1:]]))
