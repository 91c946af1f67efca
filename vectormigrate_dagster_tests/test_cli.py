"""Checks the command's contract: options on both sides of the verb, one JSON document, exit codes, errors, progress.

Services are replaced here; what they do is checked in `services/`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from vectormigrate_dagster.cli import cli
from vectormigrate_dagster.cli import progress as progress_module
from vectormigrate_dagster.cli.progress import Progress, watch
from vectormigrate_dagster.cli.render import duration
from vectormigrate_dagster.errors import ConfigurationError, NotSo, PlanRefused, Stopped, Throttled, Unavailable
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.services.models import (
    BrokenFile,
    DemoDocument,
    DemoValidation,
    EndpointDocument,
    Estimate,
    ExportDocument,
    ExportedScope,
    ListedMigration,
    LookupDocument,
    LossCounts,
    MigrationList,
    PartitionCounts,
    PlanDocument,
    RecordPlace,
    Status,
    TierResult,
    ValidationDocument,
    ValidationSummary,
)
from vectormigrate_dagster.services.models import Progress as Done

AT = datetime(2026, 2, 22, 10, 0, tzinfo=UTC)
SOURCE = EndpointDocument(type="qdrant", address="http://localhost:6333", collection="films")
TARGET = EndpointDocument(type="milvus", address="/data/milvus.db", collection="films")
STATUS = Status(
    migration_id="m",
    status="in_progress",
    phase="load",
    progress=Done.of(5432, 10000),
    started_at=AT,
    rate_per_second=1234.5,
    eta_seconds=200.0,
    partitions=PartitionCounts(total=8, done=3, failed=1, running=2),
    source=SOURCE,
    target=TARGET,
    loss=LossCounts(exact=3, lossy=1),
    validation=ValidationSummary(passed=True, tier="search", checked=1000, mismatched=0, at=AT),
    last_error="partition 'g0001-0002': qdrant said [bold]no",
)
COMPLETED = STATUS.model_copy(
    update={"status": "completed", "rate_per_second": None, "eta_seconds": None, "ended_at": AT + timedelta(seconds=90)}
)
PLAN = PlanDocument(
    migration_id="m",
    generation=2,
    digest="0123456789abcdef",
    source=SOURCE,
    target=TARGET,
    records=10000,
    partitions=1,
    mapping=(
        LossRow(code="id_kept", subject="id", source="u64", target="int64", grade=Grade.EXACT),
        LossRow(
            code="int_rounded",
            subject="field 'year'",
            source="int",
            target="float",
            grade=Grade.LOSSY,
            reason="37 of 10,000 values exceed 2^53",
            allowed=True,
        ),
    ),
    loss=LossCounts(exact=1, lossy=1),
    estimate=Estimate(seconds=200.0, requests=12),
)
VALIDATION = ValidationDocument(
    migration_id="m",
    passed=True,
    full=False,
    at=AT,
    seconds=1.5,
    tiers=(TierResult(name="records", passed=True, checked=1000, mismatched=0, summary="0 of 1,000: at most 0.30 %"),),
)
LOOKUP = LookupDocument(
    migration_id="m",
    record_id="17",
    source=RecordPlace(type="qdrant", collection="films", id="17", found=True, payload={"title": "[red]Ä\x1b"}),
    target=RecordPlace(type="milvus", collection="films", id="17", found=False),
)
LIST = MigrationList(
    migrations=(ListedMigration(migration_id="m", status="failed", created_at=AT),),
    total=12,
    broken=(BrokenFile(path="/m/x.yaml", error="/m/x.yaml:1: the file is empty"),),
)
EXPORT = ExportDocument(
    migration_id="m",
    to="/out",
    records=5,
    bytes=2**20,
    seconds=0.5,
    scopes=(ExportedScope(scope=None, folder="0000-records", files=1, records=5),),
)
DEMO = DemoDocument(
    migration_id="demo",
    source="qdrant",
    target="milvus",
    records_source=2992,
    records_target=2992,
    validation=DemoValidation(passed=True, tiers={"count": True, "search": True}),
    seconds=2.0,
    records_per_second=1496.0,
    home="/home",
)


ANSWERS = {
    "plan.plan": PLAN,
    "migrate.migrate": COMPLETED,
    "status.status": STATUS,
    "status.list_migrations": LIST,
    "control.stop": STATUS,
    "control.throttle": STATUS,
    "validate.validate": VALIDATION,
    "lookup.lookup": LOOKUP,
    "export.export": EXPORT,
    "demo.demo": DEMO,
    "ui.ui": None,
}


class Services:
    """Stands for the services: notes calls, answers with documents or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Any] = dict(ANSWERS)
        modules: dict[str, ModuleType] = {}
        for name in self.answers:
            module, function = name.split(".")
            full = f"vectormigrate_dagster.services.{module}"
            stand_in = modules.setdefault(full, ModuleType(full))
            setattr(stand_in, function, self._function(name))
            monkeypatch.setitem(sys.modules, full, stand_in)

    def _function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*args, **kwargs) if callable(answer) else answer

        return call

    @property
    def context(self) -> Any:
        return self.calls[-1][1][0]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Services:
    monkeypatch.chdir(tmp_path)
    for variable in ("DAGSTER_HOME", "VECTORMIGRATE_MIGRATIONS"):
        monkeypatch.delenv(variable, raising=False)
    return Services(monkeypatch)


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


VERBS_WITH_JSON = [
    ("plan", "m"),
    ("migrate", "m"),
    ("status", "m"),
    ("status",),
    ("stop", "m"),
    ("throttle", "m", "--rate", "5"),
    ("validate", "m"),
    ("lookup", "m", "17"),
    ("export", "m", "--to", "out"),
    ("demo",),
]


########
# Options, and what reaches the services
########


def test_options_work_before_and_after_the_verb(services: Services, tmp_path: Path) -> None:
    for arguments in (
        ("--home", "h", "--migrations", "f", "plan", "m"),
        ("plan", "m", "--home", "h", "--migrations", "f"),
        ("--home", "h", "plan", "--migrations", "f", "m"),
        ("--home", "other", "plan", "m", "--home", "h", "--migrations", "f"),
    ):
        assert run(*arguments).exit_code == 0
        assert (services.context.migrations, services.context.home) == (tmp_path / "f", tmp_path / "h")


def test_folders_come_from_the_environment_or_the_current_folder(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("status", "m")
    assert (services.context.migrations, services.context.home) == (tmp_path / "migrations", tmp_path / ".dagster")
    monkeypatch.setenv("DAGSTER_HOME", "/h")
    monkeypatch.setenv("VECTORMIGRATE_MIGRATIONS", "/f")
    run("status", "m")
    assert (services.context.migrations, services.context.home) == (Path("/f"), Path("/h"))


def test_the_demo_is_wholly_inside_a_home_that_is_given(services: Services, tmp_path: Path) -> None:
    shown = run("demo", "--home", "h")
    assert (services.context.migrations, services.context.home) == (tmp_path / "h" / "migrations", tmp_path / "h")
    assert "vectormigrate --migrations=h/migrations --home=h status demo" in shown.stderr
    run("demo")
    assert (services.context.migrations, services.context.home) == (tmp_path / "migrations", tmp_path / ".dagster")


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (("plan", "m", "--replan", "--adopt"), "plan.plan", {"profile": "sample", "replan": True, "adopt": True}),
        (("plan", "m", "--profile", "full"), "plan.plan", {"profile": "full", "replan": False, "adopt": False}),
        (("throttle", "m", "--rate", "2.5"), "control.throttle", {"rate": 2.5}),
        (("throttle", "m", "--rate", "none"), "control.throttle", {"rate": None}),
        (("validate", "m", "--full"), "validate.validate", {"sample_size": None, "full": True}),
        (("validate", "m", "--sample-size", "9"), "validate.validate", {"sample_size": 9, "full": False}),
        (("status", "--limit", "3", "--status", "failed"), "status.list_migrations", {"limit": 3, "status": "failed"}),
        (("ui", "--port", "4000"), "ui.ui", {"port": 4000}),
        (
            ("migrate", "m", "--dry-run", "--workers", "2", "--batch-size", "7", "--validate-every", "0"),
            "migrate.migrate",
            {"dry_run": True, "workers": 2, "batch_size": 7, "max_retries": None, "validate_every": 0},
        ),
    ],
)
def test_flags_reach_the_service(
    services: Services, arguments: tuple[str, ...], name: str, expected: dict[str, Any]
) -> None:
    assert run(*arguments).exit_code == 0
    called, _, given = services.calls[-1]
    assert called == name
    assert {key: given[key] for key in expected} == expected


########
# JSON
########


@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_json_is_exactly_one_document(services: Services, arguments: tuple[str, ...]) -> None:
    for placed in ((*arguments, "--json"), (arguments[0], "--json", *arguments[1:])):
        result = run(*placed)
        assert result.exit_code == 0
        assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_an_error_is_one_document_too(services: Services, arguments: tuple[str, ...]) -> None:
    services.answers = dict.fromkeys(services.answers, Unavailable("'h:1' does not answer"))

    result = run(*arguments, "--json")

    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "error": {"type": "Unavailable", "message": "'h:1' does not answer", "exit_code": 3}
    }
    assert "error: 'h:1' does not answer\n" in result.stderr


def test_a_usage_error_is_one_document_too(services: Services) -> None:
    for arguments, message in (
        (("plan", "--json"), "Missing argument 'ID'."),
        (("status", "m", "--watch", "--json"), "--watch needs an ID, and cannot go with --json"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"]["message"] == message


def test_a_defect_is_one_document_and_a_traceback(services: Services) -> None:
    services.answers["plan.plan"] = KeyError("x")

    result = run("plan", "m", "--json")

    assert json.loads(result.stdout)["error"]["type"] == "KeyError"
    assert isinstance(result.exception, KeyError)


def test_the_status_document_has_the_shape_that_others_rely_on(services: Services) -> None:
    document = json.loads(run("status", "m", "--json").stdout)

    assert document["progress"] == {"total_records": 10000, "migrated_records": 5432, "percentage": 54.32}
    assert document["started_at"] == "2026-02-22T10:00:00Z"
    assert document["ended_at"] is None
    assert document["live"] == {"lag_records": None, "lag_seconds": None, "can_cut_over": False, "blocked_by": []}
    assert list(document) == [
        *("migration_id", "status", "phase", "progress", "batches_processed", "started_at", "ended_at"),
        *("rate_per_second", "eta_seconds", "partitions", "skipped", "refused", "vanished"),
        *("source", "target", "loss", "validation", "live", "last_error", "stale_seconds", "runs"),
    ]


def test_what_native_code_and_children_print_stays_out_of_the_document(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys, types\n"
        "from vectormigrate_dagster_tests.test_cli import PLAN\n"
        "from vectormigrate_dagster.cli import main\n"
        "def plan(*a, **k):\n"
        "    os.write(1, b'native\\n'); sys.stdout.write('python\\n'); subprocess.run(['echo', 'child']); return PLAN\n"
        "module = types.ModuleType('vectormigrate_dagster.services.plan'); module.plan = plan\n"
        "sys.modules[module.__name__] = module\n"
        "sys.argv = ['vectormigrate', 'plan', 'm', '--json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout)["migration_id"] == "m"
    assert sorted(done.stderr.split()) == ["child", "native", "python"]


########
# Exit codes and errors
########


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), 2),
        (PlanRefused("x"), 2),
        (NotSo("x"), 1),
        (Throttled("x"), 3),
        (Unavailable("x"), 3),
        (Stopped("x"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_exit_code(services: Services, error: BaseException, code: int) -> None:
    services.answers["plan.plan"] = error

    result = run("plan", "m")

    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_on_request(services: Services) -> None:
    services.answers["plan.plan"] = NotSo("not so")

    assert run("plan", "m").stderr == "error: not so\n"
    shown = run("plan", "m", "--verbose").stderr
    assert shown.startswith("Traceback")
    assert shown.endswith("error: not so\n")


@pytest.mark.parametrize(
    ("name", "answer", "arguments", "code"),
    [
        ("validate.validate", VALIDATION.model_copy(update={"passed": False}), ("validate", "m"), 1),
        ("migrate.migrate", STATUS.model_copy(update={"status": "failed"}), ("migrate", "m"), 1),
        ("migrate.migrate", STATUS.model_copy(update={"status": "stopped"}), ("migrate", "m"), 130),
        ("migrate.migrate", STATUS.model_copy(update={"status": "planned"}), ("migrate", "m", "--dry-run"), 0),
        ("status.status", STATUS.model_copy(update={"status": "failed"}), ("status", "m"), 0),
        ("lookup.lookup", LOOKUP.model_copy(update={"source": LOOKUP.target}), ("lookup", "m", "17"), 1),
        (
            "demo.demo",
            DEMO.model_copy(update={"validation": DemoValidation(passed=False, tiers={"ids": False})}),
            ("demo",),
            1,
        ),
    ],
)
def test_an_answer_that_is_not_so_has_its_exit_code(
    services: Services, name: str, answer: Any, arguments: tuple[str, ...], code: int
) -> None:
    services.answers[name] = answer

    assert run(*arguments).exit_code == code
    assert run(*arguments, "--json").exit_code == code


@pytest.mark.parametrize(
    "arguments",
    [
        *(("nonsense",), ("plan",), ("plan", "m", "--nonsense"), ("plan", "m", "--adopt"), ("throttle", "m")),
        *(("throttle", "m", "--rate", "0"), ("throttle", "m", "--rate", "nan"), ("throttle", "m", "--rate", "x")),
        *(("validate", "m", "--full", "--sample-size", "5"), ("validate", "m", "--sample-size", "0")),
        *(("status", "--watch"), ("export", "m"), ("ui", "--port", "0")),
        *(("migrate", "m", "--source-type", "qdrant"), ("--nonsense",), ()),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_2_and_call_nothing(services: Services, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr
    assert services.calls == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (Stopped("stopped on request; go on with 'vectormigrate migrate m'"), 130),
        (Unavailable("'h' does not answer"), 3),
    ],
)
def test_what_interrupts_a_migration_says_how_to_go_on(services: Services, error: BaseException, code: int) -> None:
    services.answers["migrate.migrate"] = error

    result = run("--home", "my home", "migrate", "m")

    assert result.exit_code == code
    assert result.stderr.count("go on with") == 1
    assert "go on with: vectormigrate '--home=my home' migrate m" in result.stderr


########
# From flags
########

FLAGS = (
    *("--source-type", "qdrant", "--source-url", "http://h:6333", "--source-index", "films"),
    *("--target-type", "milvus", "--target-path", "data/milvus.db", "--target-index", "films"),
)


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("SOURCE", "TARGET"):
        monkeypatch.setenv(f"VECTORMIGRATE_MIG_1_{side}_API_KEY", "old")


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize("way", ["-", "@key.txt", "s3cret"])
def test_a_key_reaches_the_process_and_never_the_file(services: Services, tmp_path: Path, way: str) -> None:
    (tmp_path / "key.txt").write_text("s3cret\n")

    result = run("migrate", "mig-1", *FLAGS, "--source-api-key", way, "--target-api-key", "", stdin="s3cret\n")

    text = (tmp_path / "migrations" / "mig-1.yaml").read_text()
    assert result.exit_code == 0
    assert os.environ["VECTORMIGRATE_MIG_1_SOURCE_API_KEY"] == "s3cret"
    assert "api_key_env: VECTORMIGRATE_MIG_1_SOURCE_API_KEY" in text
    assert "TARGET_API_KEY" not in text
    assert "s3cret" not in text + result.output
    assert "$VECTORMIGRATE_MIG_1_SOURCE_API_KEY" in result.stderr
    assert ("warning" in result.stderr) == (way == "s3cret")
    assert f'path: "{tmp_path / "data" / "milvus.db"}"' in text


@pytest.mark.usefixtures("no_keys")
def test_two_keys_come_from_standard_input_line_by_line(services: Services) -> None:
    run("migrate", "mig-1", *FLAGS, "--target-api-key", "-", "--source-api-key", "-", stdin="one\ntwo\n")

    keys = [os.environ[f"VECTORMIGRATE_MIG_1_{side}_API_KEY"] for side in ("SOURCE", "TARGET")]
    assert keys == ["one", "two"]


@pytest.mark.parametrize(("way", "stdin"), [("-", "\n"), ("-", ""), ("@none.txt", "")])
def test_a_key_that_is_not_there_is_an_error_and_writes_no_file(
    services: Services, tmp_path: Path, way: str, stdin: str
) -> None:
    assert run("migrate", "mig-1", *FLAGS, "--source-api-key", way, stdin=stdin).exit_code == 2
    assert not (tmp_path / "migrations").exists()
    assert services.calls == []


def test_the_original_tools_command_line_works_twice(services: Services, tmp_path: Path) -> None:
    tuning = ("--batch-size", "100", "--max-retries", "3", "--validate-every", "10")
    first = run("migrate", "mig-1", *FLAGS, *tuning)
    again = run("migrate", "mig-1", *FLAGS, "--batch-size", "50")
    other = run("migrate", "mig-1", *FLAGS, "--target-index", "other")

    assert (first.exit_code, again.exit_code, other.exit_code) == (0, 0, 2)
    assert "wrote" in first.stderr
    assert "using" in again.stderr
    assert "batch_size: 100" in (tmp_path / "migrations" / "mig-1.yaml").read_text()
    assert "names another target" in other.stderr


def test_init_writes_a_file_once(services: Services, tmp_path: Path) -> None:
    first, again = run("init", "films"), run("init", "films")

    assert str(tmp_path / "migrations" / "films.yaml") in first.stdout
    assert "vectormigrate plan films" in first.stdout
    assert again.exit_code == 2
    assert "exists already" in again.stderr


########
# For people
########


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("arguments", VERBS_WITH_JSON, ids=" ".join)
def test_tables_fit_and_repeat_data_as_it_is(
    services: Services, arguments: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectormigrate_dagster.cli.render._WIDE", width)
    shown = run(*arguments).stdout

    assert shown.strip()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    if arguments == ("status", "m"):
        assert "5,432 of 10,000 (54.32 %)" in shown
        assert "3 of 8 done, 2 running, 1 failed" in shown
        assert "[bold]no" in shown
    if arguments[0] == "lookup":
        assert '"[red]Ä\\u001b"' in shown
    if arguments[0] == "plan":
        assert "37 of 10,000 values exceed 2^53 [int_rounded]" in " ".join(shown.split())
        assert "lossy (allowed)" in shown


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_is_lines_and_not_too_many(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("m", clock=clock) as progress:
        for clock.now, records in ((0.0, 10), (1.0, 20), (6.0, 30), (7.0, 40)):
            progress(STATUS.model_copy(update={"progress": Done.of(records, 100)}))
        progress(COMPLETED.model_copy(update={"progress": Done.of(100, 100)}))

    assert capsys.readouterr().err.splitlines() == [
        "m: 10 of 100 records (10.00 %), 1,234/s, 3 min 20 s left",
        "m: 30 of 100 records (30.00 %), 1,234/s, 3 min 20 s left",
        "m: 100 of 100 records (100.00 %)",
    ]


def test_progress_measures_a_rate_where_no_work_reports_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    silent = STATUS.model_copy(update={"rate_per_second": None, "eta_seconds": None})
    with Progress("m", clock=clock) as progress:
        for clock.now, records in ((0.0, 100), (10.0, 200)):
            progress(silent.model_copy(update={"progress": Done.of(records, 1000)}))

    first, second = capsys.readouterr().err.splitlines()
    assert first == "m: 100 of 1,000 records (10.00 %)"
    assert second == "m: 200 of 1,000 records (20.00 %), 10/s, 1 min 20 s left"


def test_watch_ends_with_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([STATUS, STATUS, COMPLETED])
    waits: list[float] = []

    watch(lambda: next(answers), wait=waits.append)

    assert waits == [2.0, 2.0]
    assert [line.rpartition(", ")[2] for line in capsys.readouterr().out.splitlines()] == ["in progress", "completed"]


def test_a_terminal_gets_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress_module.sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with Progress("films") as progress:
        progress(STATUS)

    assert "films" in terminal.getvalue()
    assert "5,432/10,000  1,234/s  3 min 20 s left" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (12.4, "12 s"), (59.9, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


########
# The process
########


def vectormigrate(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from vectormigrate_dagster.cli import main; main()", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False, **options)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from vectormigrate_dagster.cli import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'numpy', 'pydantic', 'yaml', 'pyarrow', 'qdrant_client', 'pymilvus', 'rich'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Exit codes:" in done.stdout


def test_errors_of_a_real_process(tmp_path: Path) -> None:
    unknown = vectormigrate("init", "a/b", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: 'a/b' cannot be the id of a migration")
    assert unknown.stdout == ""

    missing = vectormigrate("status", "nothing", "--json", cwd=tmp_path)
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"]["type"] == "ConfigurationError"
    assert "there is no migration 'nothing'" in missing.stderr


def test_every_verb_has_help() -> None:
    for name, command in cli.commands.items():
        shown = run(name, "--help")
        assert shown.exit_code == 0
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
