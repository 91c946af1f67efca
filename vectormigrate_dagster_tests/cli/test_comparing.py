"""Checks what a terminal shows while a cutover compares both sides, and that nothing else does."""

from __future__ import annotations

import sys

import pytest

from vectormigrate_dagster.cli.progress import Comparing


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_how_far_comparing_is(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Comparing("packages") as progress:
        progress(0, 240, None)
        progress(17, 240, 785.0)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("packages: comparing" in shown.err, "17/240 parts  13 min 5 s left" in shown.err) == (terminal, terminal)
    assert bool(shown.err) is terminal
