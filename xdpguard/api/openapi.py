# SPDX-License-Identifier: GPL-2.0
"""The OpenAPI document, from the table of endpoints and the types of what they take and answer."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import msgspec

from xdpguard import __version__
from xdpguard.api.described import components as components_of
from xdpguard.api.endpoints import ENDPOINTS, Endpoint
from xdpguard.api.runner import Failure
from xdpguard.explain.answers import Address, Packet

PATH = "/v1/openapi.json"

_FAILURES = {
    400: "The request is not what this document describes.",
    401: "TCP only: the token is missing or wrong.",
    404: "There is no such path.",
    408: "The request did not come in time.",
    409: "The command failed: what is asked for contradicts what is so. The command line exits with 1.",
    413: "The request is too large.",
    422: "A value is not valid. The command line exits with 2.",
    500: "An unexpected error.",
    503: "The machine lacks something. The command line exits with 3.",
    504: "The command took too long, and was stopped; its change is wholly in force, or not at all.",
}
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")


def document() -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    types = {Failure, *(it.query for it in ENDPOINTS), *(its for it in ENDPOINTS for its in it.answers)}
    types |= {it.body for it in ENDPOINTS if it.body is not None}
    types |= components_of(Address) | components_of(Packet)
    ordered = sorted(types, key=str)
    made, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(ordered, made, strict=True))
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for its in ENDPOINTS:
        paths[_PARAMETER.sub(r"{\1}", its.path)][its.method.lower()] = _operation(its, schemas, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "xdpguard", "version": __version__, "license": {"name": "GPL-2.0-only"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "TCP only."}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(its: Endpoint, schemas: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    failed = {"application/json": {"schema": schemas[Failure]}}
    answer = [schemas[it] for it in its.answers]
    schema = answer[0] if len(answer) == 1 else {"anyOf": answer}
    schema = {"type": "array", "items": schema} if its.many else schema
    found: dict[str, Any] = {
        "summary": its.summary,
        "parameters": [*_in_path(its), *_in_query(its, schemas, components)],
        "responses": {
            "200": {"description": "The command's answer.", "content": {"application/json": {"schema": schema}}},
            **{str(code): {"description": text, "content": failed} for code, text in _FAILURES.items()},
        },
    }
    if its.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[its.body]}}}
    elif its.text:
        found["requestBody"] = {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return found


def _in_path(its: Endpoint) -> list[dict[str, Any]]:
    schema = {"type": "string", "pattern": "^[^-]"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in _PARAMETER.findall(its.path)]


def _in_query(its: Endpoint, schemas: dict[Any, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    struct = components[schemas[its.query]["$ref"].rpartition("/")[2]]
    required = struct.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in struct["properties"].items()
    ]
