"""MCP's official conformance suite against our application, and what became of each of its scenarios.

    python -m benchmarks.conformance

Four runs: the application as it is served (its guards, limits and routes) with the tools that the suite asks for by
name in place of ours, and the product itself; each by the requirements of 2026-07-28 and of 2025-11-25. Scenarios that
cannot pass are listed, each with its reason, in `vectormigrate_dagster_tests/sidecar/faces/conformance/`; one of them
that passes fails the run too. The suite needs Node 22, which npm installs beside it, into a folder of its own that is
kept (`VECTORMIGRATE_NODE_TOOLS`). Exit code 0: everything is as listed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive, Scope, Send

from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.sidecar.app import McpServer, create_app
from vectormigrate_dagster_tests.harness import COLLECTION, Records, Workplace, fill
from vectormigrate_dagster_tests.sidecar.faces.conformance_fixtures import fixtures
from vectormigrate_dagster_tests.sidecar.faces.migrated import context_of, settings
from vectormigrate_dagster_tests.sidecar.faces.serving import KEY, serving

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
PACKAGES = ("node@22", "@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/inspector@2.12.0")
REVISIONS = ("2026-07-28", "2025-11-25")
LISTS = Path(__file__).parent.parent / "vectormigrate_dagster_tests" / "sidecar" / "faces" / "conformance"
INSTALL_SECONDS = 240
RUN_SECONDS = 240


class NoNode(Exception):
    """Why the tools of Node cannot run here, or how one of them failed."""


@dataclass(frozen=True)
class Node:
    """Node 22 and programs for it, in a folder."""

    folder: Path

    def start(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        modules = self.folder / "node_modules"
        environment = {**os.environ, "PATH": f"{modules / 'node' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(
            [str(modules / "node" / "bin" / "node"), str(modules / ".bin" / program), *words],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
            env=environment,
            cwd=self.folder,
        )

    def run(self, program: str, *words: str) -> str:
        """Run a program to its end and return what it printed."""
        done = self.start(program, *words)
        if done.returncode != 0:
            raise NoNode(f"'{program}' ended with exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def tools_of_node() -> Node:
    """Node and the suite, installed by npm on first use.

    Raises:
        NoNode: there is no npm, or it cannot install them.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NoNode("there is no npm, which installs Node 22 and the tools that need it")
    kept = os.environ.get("VECTORMIGRATE_NODE_TOOLS")
    folder = Path(kept) if kept else Path(tempfile.gettempdir()) / f"vectormigrate-node-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "ready.txt"
    with FileLock(folder / ".lock"):
        if not ready.exists() or ready.read_text() != " ".join(PACKAGES):
            _install(npm, folder)
            ready.write_text(" ".join(PACKAGES))
    return Node(folder)


def _install(npm: str, folder: Path) -> None:
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise NoNode(f"npm did not install {', '.join(PACKAGES)} within {INSTALL_SECONDS} s") from error
    if done.returncode != 0 or not (folder / "node_modules" / "node" / "bin" / "node").exists():
        raise NoNode(f"npm could not install {', '.join(PACKAGES)}: {done.stderr.strip()[-500:]}")


@dataclass(frozen=True)
class Outcome:
    """One run of the suite.

    Args:
        passed, total: scenarios that passed, of those that count.
        listed: scenarios that cannot pass.
        as_listed: those that failed are exactly those that are listed.
    """

    passed: int
    total: int
    listed: int
    as_listed: bool
    report: str


def conformance(node: Node, place: Workplace, revision: str, *, product: bool) -> Outcome:
    """Run the suite by the requirements of a revision, against the product or with its own tools."""
    expected = LISTS / f"{'product' if product else 'fixtures'}-{revision}.yml"
    words = ["--expected-failures", str(expected)] if expected.exists() else []
    server = None if product else fixtures()
    with _application(place, server) as url:
        done = node.start("conformance", "server", "--url", f"{url}/mcp", "--requirements", revision, *words)
    report = done.stdout + done.stderr
    listed = len(re.findall(r"^ +- ", expected.read_text(), re.MULTILINE)) if words else 0
    passed, total = _counted(node, revision, report)
    return Outcome(passed, total, listed, done.returncode == 0, report)


@contextmanager
def _application(place: Workplace, server: McpServer | None) -> Iterator[str]:
    app = create_app(context_of(place), settings(), server=server)
    with serving(_with_key(app)) as served:
        yield served.url


def _with_key(app: ASGIApp) -> ASGIApp:
    """An application for a client that cannot be told a key."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {KEY}".encode())]}
        await app(scope, receive, send)

    return keyed


def _counted(node: Node, revision: str, report: str) -> tuple[int, int]:
    """Scenarios that passed and all of them, of those that the revision demands."""
    suite = node.folder / "node_modules" / "@modelcontextprotocol" / "conformance"
    demanded = yaml.safe_load((suite / "requirements" / f"{revision}.yaml").read_text())["server"]
    marks = {name: mark for mark, name in re.findall(r"^(✓|✗) ([\w-]+): ", report, re.MULTILINE)}
    return sum(marks.get(name) == "✓" for name in demanded), len(demanded)


def main() -> int:
    """Run everything and print a table."""
    table = Table("served", "revision", "scenarios", "passed", "listed as impossible", "as listed")
    node, wrong = tools_of_node(), False
    with tempfile.TemporaryDirectory() as folder:
        source = Endpoint(type="qdrant", path=Path(folder) / "source", collection=COLLECTION)
        fill(source, Records.of(100))
        place = Workplace.make(Path(folder), source, "milvus")
        for product in (False, True):
            for revision in REVISIONS:
                found = conformance(node, place, revision, product=product)
                if not found.as_listed:
                    wrong = True
                    CONSOLE.print(found.report[-6000:], markup=False)
                what = "the product" if product else "the suite's own tools"
                counts = (str(found.total), str(found.passed), str(found.listed))
                table.add_row(what, revision, *counts, "yes" if found.as_listed else "NO")
    CONSOLE.print(table)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
