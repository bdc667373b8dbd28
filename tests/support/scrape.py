# SPDX-License-Identifier: GPL-2.0
"""Query the service for its metrics, as Prometheus does."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from support.command import Command
from support.patience import patient
from support.service import Service

_WAIT = patient(60.0)  # seconds
Labels = frozenset[tuple[str, str]]


class Scrape:
    """The figures of one moment."""

    def __init__(self, text: str) -> None:
        self.values: dict[tuple[str, Labels], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for metric in text_string_to_metric_families(text)
            for sample in metric.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the series of a metric that have these labels; -1 when there is none."""
        wanted = labels.items()
        found = [value for (its, has), value in self.values.items() if its == name and wanted <= has]
        return sum(found) if found else -1.0

    def labels(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        return {dict(has)[label]: value for (its, has), value in self.values.items() if its == name}


class Watched:
    """A running service and where it tells its figures. ``file`` is its configuration."""

    def __init__(self, service: Service, file: Path) -> None:
        self.service = service
        self.file = file

    @property
    def address(self) -> tuple[str, int]:
        """Where it said last that it serves."""
        line = next(line for line in reversed(self.service.lines) if "metrics: http://" in line)
        found = re.search(r"http://\[?([^]/]+?)\]?:(\d+)/metrics", line)
        assert found, line
        return found[1], int(found[2])

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        with closing(http.client.HTTPConnection(*self.address, timeout=_WAIT)) as link:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read().decode()

    def scrape(self) -> Scrape:
        """The figures of this moment."""
        code, text = self.get("/metrics")
        assert code == 200, text
        return Scrape(text)


@contextmanager
def watched(command: Command, folder: Path, table: str = 'listen = "127.0.0.1:0"\n') -> Iterator[Watched]:
    """``xdpguard run`` on what is attached, with this ``[metrics]``."""
    file = folder / "metrics.toml"
    file.write_text(f"[metrics]\n{table}")
    with Service(command, "--config", str(file)) as service:
        assert service.says("metrics"), service.lines
        yield Watched(service, file)
