"""The command's frame: options that every verb has, exit codes, errors, and JSON that stays alone on its stream."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from vectormigrate_dagster.errors import Stopped, VectorMigrateError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from vectormigrate_dagster.services.context import Context

__all__ = ["Settings", "answer", "cli", "interruptible", "json_option", "verb"]

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

INTERRUPTED = 130


@dataclass
class Settings:
    """What the options that every verb has were set to."""

    migrations: Path | None = None
    home: Path | None = None
    verbose: bool = False
    json: bool = False

    @property
    def folder(self) -> Path:
        """The migrations folder, absolute."""
        from vectormigrate_dagster.migration_file import migrations_folder

        return migrations_folder(self.migrations)

    def context(self, *, demo: bool = False) -> Context:
        """Where the services find migrations and Dagster's storage.

        Args:
            demo: `--home` alone puts the migrations folder into the home, and with it the demo's databases.
        """
        from vectormigrate_dagster.services.context import Context

        if demo and self.home is not None and self.migrations is None:
            self.migrations = self.home / "migrations"
        home = self.home or Path(os.environ.get("DAGSTER_HOME") or ".dagster")
        return Context(migrations=self.folder, home=home.absolute())

    def command(self, *words: str) -> str:
        """A command to type that reaches the same migrations and the same home."""
        options = [f"--{name}={value}" for name in ("migrations", "home") if (value := getattr(self, name)) is not None]
        return shlex.join(["vectormigrate", *options, *words])

    def note(self, message: str) -> None:
        """Say something on the side, where it never mixes with a document."""
        click.echo(message, err=True)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep an option's value, whichever side of the verb it was on."""
    if value and parameter.name:
        setattr(context.ensure_object(Settings), parameter.name, value)


_FOLDER = click.Path(path_type=Path)
_COMMON = (
    click.option(
        "--migrations",
        type=_FOLDER,
        expose_value=False,
        callback=_remember,
        help="Folder of migration files  [default: $VECTORMIGRATE_MIGRATIONS or ./migrations]",
    ),
    click.option(
        "--home",
        type=_FOLDER,
        expose_value=False,
        callback=_remember,
        help="DAGSTER_HOME, made on first use  [default: $DAGSTER_HOME or ./.dagster]",
    ),
    click.option(
        "--verbose", is_flag=True, expose_value=False, callback=_remember, help="Show the traceback of an error."
    ),
)


def _common(function: Function) -> Function:
    for option in reversed(_COMMON):
        function = option(function)
    return function


def verb(function: Callable[..., int | None]) -> click.Command:
    """Make a verb of a function that takes `Settings` first and returns its exit code (None is 0)."""
    return click.command()(_common(click.pass_obj(function)))


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_remember, help="Print exactly one JSON document."
)


class _Face(click.Group):
    """A group whose errors are one line, or one JSON document, and the exit code of `errors.py`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Verbs in the order in which one uses them."""
        return list(self.commands)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002  (click's signature; this face always ends the process)
        **extra: Any,
    ) -> NoReturn:
        arguments = sys.argv[1:] if args is None else list(args)
        code: int | None
        try:
            extra.setdefault("obj", Settings())
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            usage = "" if error.ctx is None else f"{error.ctx.get_usage()}\n"
            code = _fail(error, usage + _line(error.format_message()), error.format_message(), 2, arguments)
        except click.ClickException as error:
            code = _fail(error, _line(error.format_message()), error.format_message(), 2, arguments)
        except VectorMigrateError as error:
            message = "; ".join([str(error), *_notes(error)])
            code = _fail(error, _line(message), message, error.exit_code, arguments)
        except click.Abort as error:
            code = _fail(error, "interrupted", "interrupted", INTERRUPTED, arguments)
        except Exception as error:
            # Not one of ours: a defect. Its traceback is what a report of it needs.
            if "--json" in arguments:
                _print_error(error, str(error), 1)
            raise
        sys.exit(code or 0)


def _line(message: str) -> str:
    return f"error: {message}"


def _notes(error: BaseException) -> list[str]:
    """What was noted on an error and on those that it was raised from, which may come back to itself."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is known for known in chain):
        chain.append(cause)
        cause = cause.__cause__
    return [note for each in chain for note in getattr(each, "__notes__", ())]


def _fail(error: Exception, shown: str, message: str, code: int, arguments: Sequence[str]) -> int:
    if "--verbose" in arguments:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(shown, err=True)
    if "--json" in arguments:
        _print_error(error, message, code)
    return code


def _print_error(error: Exception, message: str, code: int) -> None:
    document = {"error": {"type": type(error).__name__, "message": message, "exit_code": code}}
    click.echo(json.dumps(document, ensure_ascii=False))


def answer(settings: Settings, call: Callable[[], Result], show: Callable[[Result], None]) -> Result:
    """Call a service and show what it answers: as one JSON document, or by `show`."""
    if not settings.json:
        result = call()
        show(result)
        return result
    with _stdout_is_stderr():
        result = call()
    click.echo(_document(result))
    return result


@contextlib.contextmanager
def interruptible(outcome: str) -> Iterator[None]:
    """Say in one line what an interrupt left behind, wherever it came."""
    try:
        yield
    except (Stopped, KeyboardInterrupt) as error:
        raise Stopped(f"interrupted; {outcome}") from error


def _document(result: Any) -> str:
    model: BaseModel = result
    return model.model_dump_json(indent=2)


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Send to standard error what anybody prints meanwhile, native code and child processes too."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@click.group(
    cls=_Face,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 done and true; 1 what was asked about is not so; 2 usage or configuration; "
        "3 a database could not be reached or refused; 130 interrupted. After 3 and 130 the same command goes on."
    ),
)
@click.version_option(package_name="vectormigrate-dagster")
@_common
@click.pass_context
def cli(context: click.Context) -> int:
    """Move a collection from one vector database to another: mapped, checked, resumable."""
    if context.invoked_subcommand is not None:
        return 0
    click.echo(context.get_help(), err=True)
    return 2
