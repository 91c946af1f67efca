"""Checks that the README, the examples and the files beside the code say what the code does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import yaml
from click.testing import CliRunner

from vectormigrate_dagster import errors
from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.databases import TYPES, capabilities_of
from vectormigrate_dagster.migration_file import load_folder
from vectormigrate_dagster.migration_file.loading import parse_migration

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMON = {"--migrations", "--home", "--verbose", "--help"}


def options_of(command: click.Command) -> set[str]:
    return {name for option in command.params if isinstance(option, click.Option) for name in option.opts}


def arguments_of(command: click.Command) -> str:
    """A verb's arguments as the README writes them."""
    words = [
        argument.human_readable_name.upper() if argument.required else f"[{argument.human_readable_name.upper()}]"
        for argument in command.params
        if isinstance(argument, click.Argument)
    ]
    return " ".join([command.name or "", *words])


def test_the_command_table_is_the_command() -> None:
    rows = re.findall(r"^\| `([a-z][^`]*)` \| (.+?) \|(.*?)\|$", README, re.MULTILINE)

    shown = [(verb, text, set(re.findall(r"`(--[a-z-]+)`", options))) for verb, text, options in rows]
    actual = [
        (arguments_of(command), command.get_short_help_str(limit=200), options_of(command) - COMMON)
        for command in cli.commands.values()
    ]
    assert [(verb, text.rstrip("."), options) for verb, text, options in shown] == [
        (verb, text.rstrip("."), options) for verb, text, options in actual
    ]
    assert all(COMMON - {"--help"} <= options_of(command) for command in cli.commands.values())


def test_the_exit_codes_are_those_of_the_errors() -> None:
    shown = {int(code) for code in re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)}
    raised = {getattr(errors, name).exit_code for name in errors.__all__}

    assert shown == raised | {0}


def test_every_command_line_in_the_readme_parses() -> None:
    text = README.replace("\\\n", " ")
    lines = [line.split("#")[0].split() for line in re.findall(r"^(vectormigrate .+)$", text, re.MULTILINE)]

    assert len(lines) > 5
    for _, verb, *rest in lines:
        command = cli.commands[verb]
        command.make_context(verb, list(rest))


def test_the_readme_has_the_two_commands_that_ci_and_users_need() -> None:
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/vectormigrate demo\n" in README
    assert "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest\n" in README


def test_the_smallest_migration_file_of_the_readme_loads() -> None:
    examples = re.findall(r"```yaml\n(source:.*?)```", README, re.DOTALL)

    assert len(examples) == 1
    assert parse_migration(examples[0], Path("/m/films.yaml")).target.path == Path("/data/milvus.db")


def test_every_file_in_migrations_loads() -> None:
    migrations, broken = load_folder(ROOT / "migrations")

    assert broken == []
    assert "packages" in [migration.id for migration in migrations]


def test_the_readme_names_the_databases_of_this_version() -> None:
    sentence = re.search(r"\*\*This version moves between (.+?)\*\*", README)

    assert sentence is not None
    assert set(re.split(r", | and ", sentence[1])) == {capabilities_of(name).title for name in TYPES}


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), (document.name, link)


def test_decisions_are_dated_in_order() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8"), re.MULTILINE)
    dates = [re.match(r"(\d{4}-\d\d-\d\d): .{10,}", heading) for heading in headings]

    assert headings
    assert all(dates), headings
    assert [date[1] for date in dates if date] == sorted(date[1] for date in dates if date)


def test_measurements_are_complete_rows() -> None:
    text = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
    header, _, *rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]

    assert [cell.strip() for cell in header] == ["what", "command", "machine", "figure"]
    assert rows
    for row in rows:
        assert len(row) == 4, row
        assert all(cell.strip() for cell in row), row
        assert re.search(r"\d", row[3]), row


def test_the_workspace_loads_our_definitions() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())

    module = {"module_name": "vectormigrate_dagster.definitions", "location_name": "vectormigrate"}
    assert workspace == {"load_from": [{"python_module": module}]}


def test_ci_is_a_valid_executable_script() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()


def test_the_error_document_is_the_one_that_is_printed() -> None:
    match = re.search(r"`(\{\"error\".*?\}\})`", README)
    printed = json.loads(CliRunner().invoke(cli, ["plan", "--json"]).stdout)

    assert match is not None
    assert list(json.loads(match[1].replace("...", "0"))["error"]) == list(printed["error"])
