"""The home is made once, however many come first; a lease has one holder and dies with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from vectormigrate_dagster.defs.home import ensure_home, open_home
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.errors import ConfigurationError, LeaseHeld

HOLD = """
import sys
from pathlib import Path
from vectormigrate_dagster.defs.home import open_home
from vectormigrate_dagster.defs.lease import Lease
with open_home(Path(sys.argv[1])) as instance:
    lease = Lease(instance, "m", "k")
    lease.acquire()
    print("held", flush=True)
    sys.stdin.read()
"""
USE = """
import sys
from pathlib import Path
import dagster as dg
from vectormigrate_dagster.defs.home import open_home
with open_home(Path(sys.argv[1])) as instance:
    instance.add_dynamic_partitions("p", [sys.argv[2]])
    instance.report_runless_asset_event(dg.AssetObservation(asset_key="a", partition=sys.argv[2]))
"""


def test_first_use_writes_the_tuned_configuration(tmp_path: Path) -> None:
    with open_home(tmp_path / "new" / "home") as instance:
        assert instance.run_coordinator.__class__.__name__ == "QueuedRunCoordinator"
        assert instance.nux_enabled is False
        assert instance.telemetry_enabled is False
    limits = (tmp_path / "new" / "home" / "dagster.yaml").read_text()
    assert "vectormigrate/embedded" in limits


def test_a_configuration_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    ensure_home(tmp_path)
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry:\n  enabled: false\n"


def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(ConfigurationError, match="is a file; name a folder"):
        ensure_home(tmp_path / "home")


def test_four_at_once_on_a_fresh_home_all_succeed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    users = [subprocess.Popen([sys.executable, "-c", USE, str(home), str(n)], stderr=subprocess.PIPE) for n in range(4)]
    for user in users:
        _, errors = user.communicate(timeout=120)
        assert user.returncode == 0, errors.decode()
    with open_home(home) as instance:
        assert sorted(instance.get_dynamic_partitions("p")) == ["0", "1", "2", "3"]
        assert len(instance.fetch_observations(dg.AssetKey("a"), limit=10).records) == 4


def test_a_lease_has_one_holder(tmp_path: Path) -> None:
    with open_home(tmp_path) as instance:
        one, two = Lease(instance, "m", "g0001-00000"), Lease(instance, "m", "g0001-00000")
        assert not one.is_held()
        with held(one):
            assert two.is_held()
            with pytest.raises(LeaseHeld, match="'g0001-00000' of migration 'm' is being worked on"):
                two.acquire(timeout=0.05)
        assert not two.is_held()


def test_h20_leases_of_two_migrations_are_two(tmp_path: Path) -> None:
    with open_home(tmp_path) as instance, held(Lease(instance, "one", "k")):
        assert not Lease(instance, "two", "k").is_held()


def test_a_lease_dies_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with open_home(tmp_path) as instance:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        assert Lease(instance, "m", "k").is_held()
        holder.kill()
        holder.communicate(timeout=60)
        assert not Lease(instance, "m", "k").is_held()
