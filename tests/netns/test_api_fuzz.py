# SPDX-License-Identifier: GPL-2.0
"""The HTTP API under schemathesis: whatever is sent, the answers are those that its OpenAPI document announces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.api import TOKEN, Served, served
from support.command import Command

from xdpguard.api.openapi import document

pytestmark = pytest.mark.timeout(600)
_SCHEMA = schemathesis.openapi.from_dict(document())
_OPERATIONS = {its.label: its for its in (it.ok() for it in _SCHEMA.get_all_operations() if isinstance(it, Ok))}
_CASES = [
    (label, mode)
    for label, it in _OPERATIONS.items()
    for mode in GenerationMode
    # Of what takes nothing, nothing can be wrong.
    if mode == GenerationMode.POSITIVE or it.query or it.path_parameters or it.body
]
# Of each kind of data for each operation; long runs ask for more.
_EXAMPLES = int(os.environ.get("API_EXAMPLES", "4"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, _shared: Any, lab: Any) -> Iterator[Served]:
    attached: Command = _shared.attached(lab)
    with served(attached, tmp_path_factory.mktemp("api")) as its:
        yield its


@pytest.mark.parametrize(("label", "mode"), _CASES)
def test_every_answer_is_announced(api: Served, label: str, mode: GenerationMode) -> None:
    operation = _OPERATIONS[label]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=_EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def asked(case: Any) -> None:
        for part in (case.body, case.query):
            if mode == GenerationMode.POSITIVE and isinstance(part, dict) and "confirm" in part:
                part["confirm"] = ""  # a valid one would leave a timer behind
        response = case.call(
            base_url=f"https://127.0.0.1:{api.port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            verify=str(api.trusted),
            timeout=60,
        )
        # A valid string need not be an address.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    asked()


def test_it_still_answers(api: Served) -> None:
    assert api.ask("GET", "/v1/status").status == 200
    lines = "\n".join(api.service.lines)
    assert "Traceback" not in lines, lines
    assert "process ended" not in lines, lines
