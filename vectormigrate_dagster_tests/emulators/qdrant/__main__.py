"""Run the stand-in as a process: see `process.run`."""

from __future__ import annotations

from vectormigrate_dagster_tests.emulators.process import run
from vectormigrate_dagster_tests.emulators.qdrant.server import Faces
from vectormigrate_dagster_tests.emulators.qdrant.service import Service, Settings

run(
    lambda settings, port, grpc_port: Faces(Service(Settings(**settings)), port, grpc_port),
    port=6333,
    grpc_port=6334,
)
