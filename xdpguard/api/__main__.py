# SPDX-License-Identifier: GPL-2.0
"""The API's process, which ``run`` starts: serves what its one argument, JSON, says."""

from __future__ import annotations

import logging
import os
import signal
import sys

import msgspec

from xdpguard.cli.app import open_standard_streams
from xdpguard.errors import EXIT_MISSING, XdpguardError
from xdpguard.policy.api import Api
from xdpguard.service import log

_log = logging.getLogger("xdpguard.api")

_UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: to be tried again


def main(text: str) -> int:
    """Serve; return the exit code. Whatever keeps it from that is logged, on the standard error of ``run``."""
    open_standard_streams()
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for the service
    log.begin("--verbose" in sys.argv)
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn").propagate = False
    wanted = msgspec.json.decode(text, type=Api)
    try:
        from xdpguard.api.server import bound, serve
    except ImportError as error:
        _log.error(
            f"the API is not served: {error}; install xdpguard with the extra api ('.[api]' instead of '.'), or"
            " remove [api]"
        )
        return EXIT_MISSING
    try:
        with bound(wanted) as places:
            serve(places, wanted.token_file)
    except XdpguardError as error:
        _log.error(f"the API is not served: {error}; {error.remedy}; then send SIGHUP")
        return error.exit_code
    except Exception as error:
        _log.error(f"the API is not served: {log.in_words(error)}")
        _log.debug("where it happened:", exc_info=error)
        return _UNEXPECTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
