"""`ui`: Dagster's web pages and daemon, on this home and these migrations."""

from __future__ import annotations

import os
import sys

from vectormigrate_dagster.defs.home import ensure_home
from vectormigrate_dagster.defs.names import LOCATION
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.services.context import Context

_WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: vectormigrate_dagster.definitions
      location_name: {LOCATION}
"""
"""Under this name the pages count the runs of the command as runs of the job."""


def ui(context: Context, *, host: str = "127.0.0.1", port: int = 3000) -> None:
    """Become `dagster dev`; returns only if that cannot be started.

    Raises:
        ConfigurationError: there is no folder of migration files.
    """
    if not context.migrations.is_dir():
        raise ConfigurationError(
            f"there is no folder '{context.migrations}'; write a first file with 'vectormigrate init ID'"
        )
    home = ensure_home(context.home)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "VECTORMIGRATE_MIGRATIONS": str(context.migrations.absolute()),
    }
    workspace = home / "workspace.yaml"
    workspace.write_text(_WORKSPACE, encoding="utf-8")
    os.chdir(home)
    words = ["-m", "dagster", "dev", "-w", str(workspace), "-h", host, "-p", str(port)]
    os.execve(sys.executable, [sys.executable, *words], environment)
