# SPDX-License-Identifier: GPL-2.0
"""The process: standard streams, exit codes, and no traceback, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable

from xdpguard import shortage
from xdpguard.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, XdpguardError


def main() -> None:
    """Run the command line and exit with its code."""
    open_standard_streams()
    os.umask(0o077)  # rules, captures and pins are for nobody else to read
    sys.exit(run(sys.argv[1:]))


def open_standard_streams() -> None:
    """Open the standard streams that are closed (>&-), lest a map or a socket get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # What the locale cannot show is shown as an escape, and ends no command.
        # Refused by a stream whose descriptor has become another file since it was opened.
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def run(arguments: list[str], tell: Callable[[XdpguardError, bool], None] | None = None) -> int:
    """Run the command line; return the exit code.

    ``tell``: called with the error that ended it, and whether its details are wanted; by default it is printed.
    """
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        shortage.prepare()
        code = _help() if arguments in (["-h"], ["--help"]) else _invoke(arguments)
        sys.stdout.flush()
    except XdpguardError as error:
        return _failed(error, verbose, tell)
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        _silence()
        return EXIT_DONE
    except Exception as error:  # the user never sees a traceback
        if isinstance(error, OSError):
            _silence()
        return _failed(_explained(error), verbose, tell)
    # Typer ends with 1 when the reader of a pipe has closed it (| head). That is not a failure.
    return EXIT_DONE if code == EXIT_FAILED and _reader_gone() else code


def _help() -> int:
    """Print the help without importing typer, which takes longer than printing it."""
    from xdpguard.cli.catalogue import overview

    sys.stdout.write(overview())
    return EXIT_DONE


def _invoke(arguments: list[str]) -> int:
    from xdpguard.cli.catalogue import COMPLETES
    from xdpguard.cli.root import app

    if COMPLETES in os.environ:
        from xdpguard.cli import completion

        completion.join_words()
    try:
        code = app(args=arguments, prog_name="xdpguard", obj=shlex.join(arguments), standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_DONE
    except Exception as error:
        return _refused(error, arguments)
    return code if isinstance(code, int) else EXIT_DONE


def _refused(error: Exception, arguments: list[str]) -> int:
    """Raise what the parser refuses as an error like any other; return the exit code where help is shown instead."""
    if isinstance(error, XdpguardError):
        raise error
    from xdpguard.cli import usage

    if found := usage.refused(error, arguments):
        raise found from error
    if not hasattr(error, "show"):
        raise error
    error.show()
    return EXIT_USAGE


def _silence() -> None:
    """Keep Python from retrying failed writes when it exits."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _explained(error: Exception) -> XdpguardError:
    from xdpguard.cli.kinds import explained

    return explained(error)


def _failed(error: XdpguardError, verbose: bool, tell: Callable[[XdpguardError, bool], None] | None) -> int:
    from xdpguard.cli import render

    (tell or render.failure)(error, verbose)
    return error.exit_code


def _reader_gone() -> bool:
    from xdpguard.cli import render

    return render.reader_gone(1)
