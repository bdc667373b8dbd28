# SPDX-License-Identifier: GPL-2.0
"""A real CrowdSec: its local API alone, on a port of the loopback of its own, without any connection to the world."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Self

from tied import tied

from support.traffic import eventually
from support.unpacked import unpacked

_CONFIG = """\
common: {{daemonize: false, log_media: stdout, log_level: info}}
config_paths:
  config_dir: {at}
  data_dir: {at}/data
  simulation_path: {at}/simulation.yaml
  hub_dir: {at}/hub
  index_path: {at}/hub/.index.json
  notification_dir: {at}/notifications
  plugin_dir: {at}/plugins
cscli: {{output: json}}
db_config: {{log_level: info, type: sqlite, db_path: {at}/data/crowdsec.db, use_wal: true}}
api:
  client: {{credentials_path: {at}/credentials.yaml}}
  server: {{log_level: info, listen_uri: "127.0.0.1:{port}", profiles_path: {at}/profiles.yaml}}
prometheus: {{enabled: false}}
"""


class CrowdSec:
    """The server; use as a context manager. It may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._programs = unpacked("crowdsec") / "usr" / "bin"
        self.folder = folder
        with socket.socket() as asked:
            asked.bind(("127.0.0.1", 0))
            self.port = int(asked.getsockname()[1])
        self._process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        for name in ("data", "hub", "notifications", "plugins"):
            (folder / name).mkdir(parents=True)
        self.credentials = folder / "credentials.yaml"
        self.key = folder / "key"
        files = {
            "config.yaml": _CONFIG.format(at=folder, port=self.port),
            "simulation.yaml": "simulation: false\n",
            "hub/.index.json": "{}",
            "credentials.yaml": "",
            "profiles.yaml": 'name: any\nfilters: ["true"]\ndecisions: [{type: ban, duration: 1h}]\n',
        }
        for name, text in files.items():
            (folder / name).touch(0o600)
            (folder / name).write_text(text, encoding="utf-8")
        self.cscli("machines", "add", "tests", "--password", "secret", "-f", str(self.credentials), "--url", self.url)
        self.key.touch(0o600)
        self.key.write_text(self.cscli("bouncers", "add", "xdpguard", "-o", "raw"), encoding="ascii")

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        self.lines = []
        self._process = subprocess.Popen(
            tied([str(self._programs / "crowdsec"), "-c", str(self.folder / "config.yaml"), "-no-cs"]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        assert eventually(self._listens), self.lines

    def _listens(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            self.lines.extend(process.stdout)

    def kill(self) -> None:
        """Ends it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cscli(self, *arguments: str) -> str:
        """Runs a command that must succeed; returns what it printed."""
        line = [str(self._programs / "cscli"), "-c", str(self.folder / "config.yaml"), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (arguments, done)
        return done.stdout

    def ban(self, target: str, *more: str) -> None:
        """Adds a decision."""
        self.cscli("decisions", "add", "--range" if "/" in target else "--ip", target, *more)

    def decisions(self) -> list[dict[str, Any]]:
        """All decisions, as the server lists them."""
        alerts = json.loads(self.cscli("decisions", "list", "-o", "json", "--limit", "0")) or []
        return [it for alert in alerts for it in alert["decisions"]]
