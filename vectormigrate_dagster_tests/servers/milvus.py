"""A real Milvus: the standalone server 2.3.5 of the package index, in a folder, on ports of its own.

Nobody but tests uses it. It listens on all interfaces (it knows no other way), and on another port each time that it is
started; tests that start it again reach it through a `TcpProxy` on 127.0.0.1, whose port stays the same.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import lzma
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import SecretStr
from pymilvus import MilvusClient

from vectormigrate_dagster.databases import Endpoint, open_source
from vectormigrate_dagster.databases.endpoint import MilvusOptions
from vectormigrate_dagster.databases.milvus.capabilities import of_version
from vectormigrate_dagster.model import Capabilities
from vectormigrate_dagster_tests.servers.proxy import HOST, TcpProxy

PACKAGE = "milvus==2.3.5"
"""2.3.9 has no Linux wheel; the client's own server package ended there."""

VERSION = (2, 3, 5)

_START_SECONDS = 120
_PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections: none of ours is taken before the server binds it."""

_DEFAULTS = {"common.session.ttl": 10}
"""Seconds for which the parts of a killed server are believed to be alive; 30 by default."""

QUICK = {
    "proxy.timeTickInterval": 20,
    "queryCoord.checkInterval": 100,
    "queryCoord.checkIndexInterval": 100,
    "queryCoord.distPullInterval": 50,
    "queryCoord.checkChannelInterval": 50,
    "queryCoord.checkSegmentInterval": 50,
    "queryCoord.leaderViewUpdateInterval": 0.1,
    "queryCoord.UpdateNextTargetInterval": 0.1,
}
"""Settings for many small tests: a strongly consistent read waits for the clock's next tick, 200 ms by default.

The last four say how soon the server looks for what is to be loaded and calls it loaded: 1 s by default, 10 s for the
last one. Without them each collection costs a test a second more.
"""

_UNDOCUMENTED = (
    "queryCoord.checkIndexInterval",
    "queryCoord.checkChannelInterval",
    "queryCoord.checkSegmentInterval",
    "queryCoord.leaderViewUpdateInterval",
    "queryCoord.UpdateNextTargetInterval",
)
"""Settings that the server reads and that its own file does not have."""

_SETTING = re.compile(r"\{\{\s*(?P<name>\w+)(?:\(\w+\))?\s*(?::\s*(?P<default>.*?))?\s*\}\}")
_WATCHDOG = "import os, sys; sys.stdin.read(); os.kill(int(sys.argv[1]), 9)"


@dataclass(frozen=True)
class Address:
    """Where a server is, what it wants to see first, and a database on it."""

    url: str
    token: str = ""
    database: str = "default"

    def endpoint(self, collection: str) -> Endpoint:
        """Where a collection is."""
        key = SecretStr(self.token) if self.token else None
        options = MilvusOptions(database=self.database)
        return Endpoint(type="milvus", url=self.url, api_key=key, collection=collection, options=options)


def given_address() -> Address | None:
    """The server that MILVUS_URL and MILVUS_TOKEN name, if they do."""
    url = os.environ.get("MILVUS_URL")
    return None if url is None else Address(url, os.environ.get("MILVUS_TOKEN", ""))


@contextlib.contextmanager
def database_of_its_own(server: Address) -> Iterator[Address]:
    """A new database on a server, so that several test processes can use the same names; dropped at the end."""
    name = f"tests_{uuid.uuid4().hex}"
    with contextlib.closing(MilvusClient(server.url, token=server.token, dedicated=True)) as client:
        client.create_database(name)
        yield replace(server, database=name)
        with contextlib.closing(MilvusClient(server.url, token=server.token, db_name=name, dedicated=True)) as inside:
            for collection in inside.list_collections():
                inside.drop_collection(collection)
        client.drop_database(name)


def server_capabilities() -> Capabilities:
    """What the server can do that tests use."""
    given = given_address()
    if given is None:
        return of_version(VERSION)
    with open_source(given.endpoint("any")) as source:
        return source.probe()


def shared_server(folder: Path) -> Address:
    """The one server of all test processes that are given this folder: it costs a fifth of a core, used or not.

    The first process that asks starts it and keeps it until it ends; pytest-xdist ends all of its processes together.
    """
    folder.mkdir(exist_ok=True)
    url = folder / "url"
    with _locked(folder / "lock"):
        if not url.exists():
            url.write_text(MilvusServer.start(folder / "server", QUICK).direct_url)
    return Address(url.read_text())


class MilvusServer:
    """One server. `kill` and `restart` keep its data and its address.

    Args:
        folder: holds its data, settings and logs.
        settings: changes to its configuration, by dotted key ("common.security.authorizationEnabled").
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self._settings = _DEFAULTS | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.proxy = TcpProxy()
        self._ports: dict[str, int] = {}

    @classmethod
    def start(cls, folder: Path, settings: Mapping[str, Any] | None = None) -> Self:
        """Start a server on whatever data is in `folder` and wait until it answers."""
        server = cls(folder, settings)
        try:
            server.restart()
        except BaseException:
            server.stop()
            raise
        atexit.register(server.stop)
        return server

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.proxy.port}"

    @property
    def address(self) -> Address:
        """Where clients find it, as a value."""
        return Address(self.url)

    @property
    def direct_url(self) -> str:
        """Its address without the proxy, until it is started again."""
        return f"http://{HOST}:{self._ports['proxy_port']}"

    @property
    def pid(self) -> int:
        """Of the server itself."""
        if self._process is None:
            raise RuntimeError(f"the Milvus server in '{self.folder}' does not run")
        return self._process.pid

    def kill(self) -> None:
        """End it as a power cut would, and reset its connections."""
        if self._process is not None:
            if self._watchdog is not None:  # first, because it knows a number that will belong to somebody else
                self._watchdog.kill()
                self._watchdog.communicate()
            self._process.kill()
            self._process.wait()
            self._process = self._watchdog = None
        self.proxy.refuse()
        self.proxy.cut()

    def restart(self) -> None:
        """Start it again on the same data, after killing it if it runs.

        Its parts keep their ports if they are still free: it looks for the dead ones for 30 seconds elsewhere.
        """
        self.kill()
        program = installed()
        for attempts_left in (2, 1, 0):
            self._configure(program)
            self._launch(program)
            if self._answers():
                self.proxy.forward_to(self._ports["proxy_port"])
                self.proxy.accept()
                return
            self.kill()
            self._ports = {}
            if not attempts_left or "address already in use" not in self.log():
                raise RuntimeError(f"Milvus in '{self.folder}' did not start; its log ends:\n{self.log()}")

    def stop(self) -> None:
        """Kill it for good; may be called twice."""
        self.kill()
        self.proxy.close()
        atexit.unregister(self.stop)

    def log(self, characters: int = 4000) -> str:
        """The end of what it printed."""
        text = (self.folder / "output.log").read_text(errors="replace")
        return text[-characters:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def _configure(self, program: Path) -> None:
        """Write its settings."""
        template = (program / "config.yaml.template").read_text()
        if not self._ports:
            names = [match["name"] for match in _SETTING.finditer(template) if match["name"].endswith("_port")]
            names += ["metrics_port", "etcd_peer_port"]
            self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        data, logs = self.folder / "data", self.folder / "logs"
        for part in (data, logs, self.folder / "configs"):
            part.mkdir(parents=True, exist_ok=True)
        values = self._ports | {
            "etcd_log_path": logs / "etcd.log",
            "etcd_data_dir": data / "etcd",
            "local_storage_dir": data,
            "rocksmq_data_dir": data / "rocksmq",
            "system_log_path": logs,
        }
        text = _SETTING.sub(lambda match: str(values.get(match["name"], match["default"])), template)
        text = re.sub(r"^( +ip:)( #.*)?$", rf"\1 {HOST}", text, flags=re.MULTILINE)
        (self.folder / "configs" / "milvus.yaml").write_text(_changed(text, self._settings))
        shutil.copy(program / "glog.conf", self.folder / "configs" / "glog.conf")
        # The port to its peers is fixed otherwise, and a second server on the machine would abort.
        client, peer = (f"http://{HOST}:{self._ports[name]}" for name in ("etcd_port", "etcd_peer_port"))
        (self.folder / "etcd.yaml").write_text(
            f"name: default\ndata-dir: {data / 'etcd'}\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n"
            f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
            f"log-outputs: [{logs / 'etcd.log'}]\nunsafe-no-fsync: true\n"
        )

    def _launch(self, program: Path) -> None:
        environment = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "ETCD_CONFIG_PATH": str(self.folder / "etcd.yaml"),
            "METRICS_PORT": str(self._ports["metrics_port"]),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "LD_LIBRARY_PATH": str(program / "bin"),
            "DYLD_LIBRARY_PATH": str(program / "bin"),
        }
        with (self.folder / "output.log").open("wb") as output:
            # A session of its own: Ctrl-C is for the tests, which then stop it.
            self._process = subprocess.Popen(
                [program / "bin" / "milvus", "run", "standalone"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # Its input ends when this process does, however that happens.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-S", "-c", _WATCHDOG, str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        """Wait until it says that all its parts are well; False if it has died or taken too long."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with (
                contextlib.suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(f"http://{HOST}:{self._ports['metrics_port']}/healthz", timeout=5) as reply,
                socket.create_connection((HOST, self._ports["proxy_port"]), timeout=5),
            ):
                if b"OK" in reply.read():
                    return True
            time.sleep(0.05)
        return False


def installed() -> Path:
    """The folder with the server's program, which is made at the first call on a machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vectormigrate"
    ready = cache / PACKAGE.replace("==", "-")
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{ready.name}.lock"):
        if not ready.exists():
            with tempfile.TemporaryDirectory(dir=cache) as unfinished:
                _install(Path(unfinished) / "package", Path(unfinished) / "made")
                (Path(unfinished) / "made").rename(ready)
    return ready


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                return found
            taken = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                taken.bind(("", port))
                found.append(port)
    raise RuntimeError(f"there are no {count} free ports from {_PORTS.start} to {_PORTS.stop}")


def _install(package: Path, made: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(package), PACKAGE]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=600)
    data = package / "milvus" / "data"
    (made / "bin").mkdir(parents=True)
    for packed in (data / "bin").glob("*.lzma"):
        with lzma.open(packed) as content, (made / "bin" / packed.stem).open("wb") as program:
            shutil.copyfileobj(content, program)
        (made / "bin" / packed.stem).chmod(0o755)
    for name in ("config.yaml.template", "glog.conf"):
        shutil.copy(data / name, made / name)


def _changed(text: str, settings: Mapping[str, Any]) -> str:
    """The YAML text with other values for some dotted keys; comments and order are kept."""
    lines, path, left = [], [], dict(settings)
    hidden = {key: left.pop(key) for key in _UNDOCUMENTED if key in left}
    for line in text.splitlines():
        if match := re.match(r"^( *)(\w+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if (key := ".".join(path)) in left:
                line = f"{match[0]} {left.pop(key)}"  # noqa: PLW2901
        lines.append(line)
        lines += [f"  {key.split('.')[1]}: {value}" for key, value in hidden.items() if line == f"{key.split('.')[0]}:"]
    if left:
        raise ValueError(f"Milvus has no settings {', '.join(left)}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
