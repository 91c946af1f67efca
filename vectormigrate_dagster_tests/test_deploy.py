"""Checks `deploy/compose.yaml`: what it starts is exactly known, reachable from this machine only, and kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VERSION = re.compile(r"v?\d+\.\d+\.\d+(\.rc\d+)?|RELEASE\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")
PORT = re.compile(r"127\.0\.0\.1:(\d+)(-\d+)?:(\d+)(-\d+)?")

every_service = pytest.mark.parametrize("name", SERVICES)


def test_the_databases_are_there() -> None:
    assert {"qdrant", "milvus", "weaviate"} <= SERVICES.keys()


@every_service
def test_an_image_is_pinned_to_an_exact_version(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition(":")
    assert VERSION.fullmatch(tag), f"'{SERVICES[name]['image']}' is not an exact version"
    assert "build" not in SERVICES[name]


@every_service
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert PORT.fullmatch(port), f"'{port}' is not bound to 127.0.0.1"
    assert "network_mode" not in SERVICES[name], "a network of the host would open every port"


def test_no_two_services_want_the_same_port() -> None:
    starts = [port.split(":")[1] for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(starts) == len(set(starts))


@every_service
def test_a_service_is_watched_and_keeps_its_data(name: str) -> None:
    service = SERVICES[name]
    if "profiles" in service:
        return  # an emulator in memory, which nobody waits for
    assert service["healthcheck"]["test"][0] == "CMD"
    named = [volume.split(":")[0] for volume in service["volumes"]]
    assert named
    assert set(named) <= COMPOSE["volumes"].keys()


@every_service
def test_a_service_waits_for_those_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[needed]
