# SPDX-License-Identifier: GPL-2.0
"""Close a connection of the NATS library, whatever state it is in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

_RETURNED = "returning true from eof_received()"


def _of_use(record: logging.LogRecord) -> bool:
    """Return whether a line of asyncio says anything: this one comes at the end of every connection with TLS that the
    library has upgraded, and would stand in the output of commands.
    """
    return not record.getMessage().startswith(_RETURNED)


logging.getLogger("asyncio").addFilter(_of_use)


async def close(client: Any) -> None:
    """Close a connection, also one that failed on its way, of which the library leaves the socket open."""
    transport = client._transport
    with contextlib.suppress(TimeoutError):  # it waits for ever after a handshake of TLS that failed
        await asyncio.wait_for(client.close(), 1)
    if transport is not None:
        with contextlib.suppress(Exception, asyncio.CancelledError):  # the library itself cancels what is waited for
            transport.close()
            await asyncio.wait_for(transport.wait_closed(), 1)
