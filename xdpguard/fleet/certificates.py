# SPDX-License-Identifier: GPL-2.0
"""A certificate authority of the fleet's own, and the certificate of its servers, made by openssl."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable
from pathlib import Path

from xdpguard.errors import MissingError, XdpguardError

CA, CA_KEY, CERTIFICATE, KEY = "ca.pem", "ca.key", "server.pem", "server.key"
_DAYS = 3650
_WAIT = 30  # seconds
_EC = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(_DAYS))


def make(directory: Path, addresses: Iterable[str]) -> None:
    """Write the authority and a certificate for servers that are reached by those names and IP addresses.

    Raise MissingError without openssl 3.
    """
    names = ",".join(f"{'IP' if _is_ip(it) else 'DNS'}:{it}" for it in dict.fromkeys(addresses))
    ca, ca_key = str(directory / CA), str(directory / CA_KEY)
    _openssl(
        *(*_EC, "-subj", "/CN=xdpguard fleet", "-keyout", ca_key, "-out", ca),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    _openssl(
        *(*_EC, "-subj", "/CN=xdpguard fleet server", "-CA", ca, "-CAkey", ca_key),
        *("-keyout", str(directory / KEY), "-out", str(directory / CERTIFICATE)),
        *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature"),
        *("-addext", "extendedKeyUsage=serverAuth,clientAuth", "-addext", f"subjectAltName={names}"),
    )


def _openssl(*arguments: str) -> None:
    remedy = "install openssl 3, or set up without --tls and name certificates of your own in the server's file"
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=_WAIT, check=False)
    except FileNotFoundError as error:
        raise MissingError("openssl is missing, which makes the certificates", remedy) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise XdpguardError(f"openssl could not be run: {error}", remedy) from error
    if done.returncode:
        raise XdpguardError(f"openssl made no certificate: {(done.stderr.strip().splitlines() or ['?'])[-1]}", remedy)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
