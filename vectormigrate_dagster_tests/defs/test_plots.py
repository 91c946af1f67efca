"""Checks the plots of a check's metadata: whole pictures, bounded in size, without a text of a database as Markdown."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

import dagster as dg
import pytest

from vectormigrate_dagster.defs import plots
from vectormigrate_dagster.defs.evidence import tier_check
from vectormigrate_dagster_tests.validation.test_page import HOSTILE, spoiled


def test_a_search_check_carries_its_plots() -> None:
    search = spoiled().tier("search")
    metadata = tier_check("m", search).metadata
    assert {"overlap_1", "overlap_2", "similarity_1", "projection", "worst_queries"} <= metadata.keys()
    for name in ("overlap_1", "overlap_2", "similarity_1", "projection"):
        value = metadata[name]
        assert isinstance(value, dg.MarkdownMetadataValue)
        assert value.md_str is not None
        found = re.fullmatch(
            rf"!\[{name}\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)\n\n[^\[\]<>]+", value.md_str
        )
        assert found is not None
        assert ElementTree.fromstring(base64.b64decode(found[1])).tag.endswith("svg")
        assert HOSTILE not in value.md_str
    worst = metadata["worst_queries"]
    assert isinstance(worst, dg.TableMetadataValue)
    assert worst.records[0].data["query"] == HOSTILE
    assert "projection" not in tier_check("m", spoiled().tier("records")).metadata


def test_a_plot_that_is_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    search = spoiled().tier("search")
    monkeypatch.setattr(plots, "MAX_BYTES", 5000)
    metadata = plots.plot_metadata(search)
    assert "projection" not in metadata
    assert "similarity_1" in metadata
