# SPDX-License-Identifier: GPL-2.0
"""Requests become commands, and what they answer becomes responses."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections import defaultdict
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from xdpguard.api import openapi
from xdpguard.api.endpoints import ENDPOINTS, Endpoint, Said
from xdpguard.api.runner import PATIENCE, Failure, Outcome, Runner
from xdpguard.errors import EXIT_DONE, EXIT_FAILED, EXIT_MISSING, EXIT_USAGE
from xdpguard.units import visible

_log = logging.getLogger(__name__)

LARGEST = 1 << 20  # bytes of a request's body
_SHOWN = 300  # characters of a command in the log
_STATUS = {EXIT_FAILED: 409, EXIT_USAGE: 422, EXIT_MISSING: 503}


class Rejected(Exception):
    """A request that is no command. ``status``: of the response."""

    def __init__(self, status: int, error: str, remedy: str) -> None:
        super().__init__(error)
        self.status = status
        self.failure = Failure(error, remedy)


def application(runner: Runner) -> Starlette:
    """Return the application for an instance's commands."""
    by_path: dict[str, dict[str, Endpoint]] = defaultdict(dict)
    for its in ENDPOINTS:
        by_path[its.path][its.method] = its
    document = msgspec.json.encode(openapi.document())

    async def describe(_: Request) -> Response:
        return _json(200, document)

    def route(path: str, its: dict[str, Endpoint]) -> Route:
        async def answer(request: Request) -> Response:
            return await _answer(runner, its["GET" if request.method == "HEAD" else request.method], request)

        return Route(path, answer, methods=list(its))

    routes = [Route(openapi.PATH, describe), *(route(path, its) for path, its in by_path.items())]
    return Starlette(routes=routes, exception_handlers={HTTPException: _elsewhere})


def refused(status: int, failure: Failure, **headers: str) -> Response:
    """Return a response that is a failure."""
    return _json(status, msgspec.json.encode(failure), **headers)


async def _answer(runner: Runner, its: Endpoint, request: Request) -> Response:
    try:
        line, given = await _asked(its, request)
    except Rejected as error:
        return refused(error.status, error.failure)
    try:
        done = await runner.run(line, given)
        found = _response(its, done)
    except TimeoutError:
        what = f"the command took longer than {PATIENCE:g} s, and was stopped"
        found = refused(504, Failure(what, "what it changed is wholly in force, or not at all; look, and try again"))
    words = shlex.join(line)
    shown = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
    level = logging.DEBUG if request.method in ("GET", "HEAD") and found.status_code == 200 else logging.INFO
    _log.log(level, f"api: {who(request.scope)}: {visible(shown)}: {found.status_code}")
    return found


async def _asked(its: Endpoint, request: Request) -> tuple[list[str], bytes]:
    """Return the command line that a request is, and what it reads on standard input. Raise Rejected."""
    data = await _body(request)
    try:
        query = msgspec.convert(dict(request.query_params), its.query, strict=False)
        body = None if its.body is None else msgspec.json.decode(data or b"{}", type=its.body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeError) as error:
        raise Rejected(400, f"not what this request takes: {error}", f"see {openapi.PATH}") from error
    path = {name: value for name, value in request.path_params.items() if isinstance(value, str)}
    if any(value[:1] in ("", "-") for value in path.values()):
        raise Rejected(400, "a name in the path is empty, or begins with a dash", f"see {openapi.PATH}")
    line = its.line(path, query, body)
    if any("\0" in word or not _is_text(word) for word in line):
        raise Rejected(400, "a value has a NUL character, or half a surrogate pair", "give plain text")
    return line, data if its.text else b""


def _is_text(word: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


async def _body(request: Request) -> bytes:
    found = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                found += part
                if len(found) > LARGEST:
                    remedy = "name a larger list's file in the configuration: [lists.NAME] file"
                    raise Rejected(413, f"the request is larger than {LARGEST:,} bytes", remedy)
    except TimeoutError:
        raise Rejected(408, f"the request took longer than {PATIENCE:g} s", "send it at once") from None
    except ClientDisconnect:
        raise Rejected(400, "the request ended early", "send all of it") from None
    return bytes(found)


def _response(its: Endpoint, done: Outcome) -> Response:
    if done.failure is not None:
        unexpected = done.failure.error.startswith("unexpected:")
        code = 500 if unexpected else _STATUS.get(done.code, 500)
        return refused(code, Failure(done.failure.error, done.failure.remedy, done.notes))
    # `status` exits with 1 when something is wrong, which its answer names.
    if done.code != EXIT_DONE and not (its.command == "status" and done.printed):
        error = done.notes[-1] if done.notes else "the command ended without an answer"
        return refused(422 if done.code == EXIT_USAGE else 500, Failure(error, f"see {openapi.PATH}"))
    if its.said:
        lines = done.printed.decode("utf-8", "replace").splitlines()
        return _json(200, msgspec.json.encode(Said(lines, done.notes)))
    return _json(200, done.printed.strip())


def _json(status: int, content: bytes, **headers: str) -> Response:
    return Response(content, status, headers, media_type="application/json")


async def _elsewhere(_: Request, error: Exception) -> Response:
    """Answer a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    return refused(error.status_code, Failure(str(error.detail).lower(), f"see {openapi.PATH}"), **headers)


def who(scope: Any) -> str:
    """Return who sent a request: an address and port, or a process at the Unix socket."""
    client = scope.get("client")
    return "somebody" if client is None else f"{client[0]}:{client[1]}" if client[1] else str(client[0])
