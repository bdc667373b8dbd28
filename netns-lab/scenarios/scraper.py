# SPDX-License-Identifier: GPL-2.0
"""A Prometheus for a scenario, and waiting for conditions."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tied import tied

from xdpguard.metrics import dashboard

_PATIENCE = 120.0  # seconds


def wait_for(happened: Callable[[], Any], what: str) -> Any:
    """Poll until there is a result; return it."""
    end = time.monotonic() + _PATIENCE
    while not (found := happened()):
        if time.monotonic() > end:
            raise SystemExit(f"prometheus: no sign of {what} in {_PATIENCE:.0f} s")
        select.select([], [], [], 0.1)
    return found


def end(process: subprocess.Popen[Any]) -> None:
    """Terminate a process that may have ended."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """A Prometheus that scrapes a target every second."""

    def __init__(self, folder: Path, target: str) -> None:
        (folder / "alerts.yml").write_text(dashboard.alerts())
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{folder}/alerts.yml']\n"
            f"scrape_configs: [{{job_name: xdpguard, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        # Bound but not listening, so that nobody else gets the port meanwhile.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{self._kept.getsockname()[1]}"
        self._url = f"http://{listen}"
        arguments = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "data",
            "web.listen-address": listen,
        }
        self._log = (folder / "prometheus.log").open("wb")
        line = ["prometheus", *(f"--{name}={value}" for name, value in arguments.items())]
        self._process = subprocess.Popen(tied(line), stdout=self._log, stderr=self._log)

    def __enter__(self) -> Server:
        wait_for(self._is_ready, "Prometheus")
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)
        self._log.close()
        self._kept.close()

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(f"prometheus: it ended: {Path(self._log.name).read_text()[-500:]}")
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str, **values: str) -> Any:
        """Return an answer of its API."""
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(values)}", timeout=30) as got:
            return json.load(got)["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        """Return the series that a query yields now. Raise SystemExit if it is not a query."""
        try:
            found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"prometheus: {query}: {error.read().decode()}") from error
        return found

    def firing(self) -> set[str]:
        """Return the firing alerts."""
        return {it["labels"]["alertname"] for it in self.ask("alerts")["alerts"] if it["state"] == "firing"}
