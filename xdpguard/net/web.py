# SPDX-License-Identifier: GPL-2.0
"""Fetch what an https URL serves into a file without a name. Whatever goes wrong is one sentence about the URL."""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from xdpguard import __version__, units
from xdpguard.errors import UsageError, XdpguardError

LARGEST = 256 << 20  # bytes
_BLOCK = 1 << 20
_PATIENCE = 30.0  # seconds without a byte


def is_url(text: str) -> bool:
    """Return whether a word is a URL of any scheme."""
    return "://" in text


def fetched(url: str, on_step: Callable[[str], None]) -> IO[bytes]:
    """Return what a URL serves, as a file at its beginning. Raise UsageError if it is not https, XdpguardError if it
    cannot be had whole.
    """
    _check(url)
    made = tempfile.TemporaryFile()  # noqa: SIM115  (handed to the caller)
    try:
        _fetch(url, made, on_step)
    except BaseException as error:
        made.close()
        if not isinstance(error, (OSError, HTTPException, ValueError)) or isinstance(error, XdpguardError):
            raise
        raise XdpguardError(f"{url}: cannot be fetched: {_reason(error)}", "nothing was changed") from error
    made.seek(0)
    return made


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError as error:
        raise UsageError(f"not a URL: {url!r}: {error}", "write https://HOST/PATH") from error
    if parts.scheme != "https":
        what = "what it serves could be changed on its way" if parts.scheme == "http" else "only https is fetched"
        raise UsageError(f"{url}: {what}", "use https, or fetch it yourself: curl URL | xdpguard lists load NAME -")
    if not host or user is not None:
        raise UsageError(f"not a URL: {url!r}", "write https://HOST/PATH, without a user")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follow to https alone."""
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, into: IO[bytes], on_step: Callable[[str], None]) -> None:
    opener = urllib.request.build_opener(_Redirects())
    request = urllib.request.Request(url, headers={"User-Agent": f"xdpguard/{__version__}"})
    with opener.open(request, timeout=_PATIENCE) as answer:
        length = answer.headers.get("Content-Length", "")
        size = 0
        while block := answer.read(_BLOCK):
            into.write(block)
            size += len(block)
            on_step(f"fetching {url}: {units.byte_count(size)}")
            if size > LARGEST:
                raise XdpguardError(f"{url}: larger than {units.byte_count(LARGEST)}", "nothing was changed")
    if length.isdecimal() and size < int(length):  # read() does not tell
        raise XdpguardError(f"{url}: ended after {size:,} of {length} bytes", "nothing was changed; try again")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    found = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(found, OSError) and found.strerror:
        return found.strerror
    return str(found) or type(found).__name__
