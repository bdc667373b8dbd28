# SPDX-License-Identifier: GPL-2.0
"""How a host proves to the fleet's server who it is: a file of ``fleet setup``, or a NATS credentials file; and TLS."""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from xdpguard import files
from xdpguard.errors import UsageError
from xdpguard.owned import read_secret
from xdpguard.policy.fleet import FleetTls

_LARGEST = 64 << 10  # bytes
_REMEDY = 'write two lines, user = "NAME" and password = "...", or name a NATS credentials file (.creds)'
_JWT = "-----BEGIN NATS USER JWT-----"


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A credentials file as ``fleet setup`` writes it, in TOML."""

    user: str
    password: str


def login_options(path: str) -> dict[str, Any]:
    """Return what nats-py must be given to log in with a credentials file.

    Raise UsageError if it is none, MissingError if others can read or change it.
    """
    if not path:
        return {}
    text = read_secret(Path(path), _LARGEST, _REMEDY).decode("utf-8", "replace")
    if _JWT in text:
        return {"user_credentials": path}
    try:
        its = msgspec.convert(tomllib.loads(text), Login)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{files.shown(path)}: not a credentials file", _REMEDY) from error
    return {"user": its.user, "password": its.password}


def tls_options(servers: tuple[str, ...], its: FleetTls) -> dict[str, Any]:
    """Return what nats-py must be given for TLS. Raise UsageError if a file cannot be used, MissingError if others can
    read or change the key.
    """
    if not its.ca and not its.cert and not any(url.startswith("tls:") for url in servers):
        return {}
    if its.cert:
        read_secret(Path(its.key), _LARGEST)
    try:
        context = ssl.create_default_context(cafile=its.ca or None)
        if its.cert:
            context.load_cert_chain(its.cert, its.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the files for TLS cannot be used: {error}", "name files in PEM format") from error
    return {"tls": context}
