# SPDX-License-Identifier: GPL-2.0
"""Many hosts that read a whole bucket at once, each as far as the socket: what the server can deliver.

A thousand interpreters that also understand 100,000 entries each would measure this machine's Python. What one host
needs to understand them is measured apart.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from pathlib import Path

_ENTRY = b"MSG $KV.xdpguard."  # begins each message, with headers (HMSG) or without


class Reader:
    """One host: connect, make a consumer, ask for all, count."""

    def __init__(self, port: int, login: str, number: int, entries: int) -> None:
        self.wanted = entries
        self.count = 0
        self._tail = b""
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.sendall(f"CONNECT {login}\r\nSUB _INBOX.r{number} 1\r\n".encode())
        name, bucket = f"reader{number}", "KV_xdpguard"
        config = {
            "name": name,
            "deliver_policy": "all",
            "ack_policy": "none",
            "filter_subject": "$KV.xdpguard.>",
            "mem_storage": True,
            "inactive_threshold": 120_000_000_000,
        }
        made = json.dumps({"stream_name": bucket, "config": config})
        asked = json.dumps({"batch": entries, "expires": 300_000_000_000})
        create = f"$JS.API.CONSUMER.CREATE.{bucket}.{name}.$KV.xdpguard.>"
        self.socket.sendall(f"PUB {create} _INBOX.none {len(made)}\r\n{made}\r\n".encode())
        self.socket.sendall(
            f"PUB $JS.API.CONSUMER.MSG.NEXT.{bucket}.{name} _INBOX.r{number} {len(asked)}\r\n{asked}\r\n".encode()
        )
        self.socket.setblocking(False)

    def read(self) -> bool:
        """Reads what is there; whether that is all."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError(f"the server ended the connection after {self.count:,} of {self.wanted:,} entries")
        if b"PING\r\n" in data:
            self.socket.send(b"PONG\r\n")
        text = self._tail + data
        self.count += text.count(_ENTRY)
        self._tail = text[-(len(_ENTRY) - 1) :]
        return self.count >= self.wanted


def deliver(port: int, credentials: Path, readers: int, entries: int, limit: float) -> tuple[float, int]:
    """Has that many read all at once; returns seconds, and how many entries were delivered. Stops after ``limit`` s."""
    lines = dict(line.replace('"', "").split(" = ") for line in credentials.read_text().splitlines())
    login = json.dumps(
        {"verbose": False, "headers": True, "no_responders": True, "user": lines["user"], "pass": lines["password"]}
    )
    start = time.monotonic()
    with selectors.DefaultSelector() as selector:
        made = [Reader(port, login, number, entries) for number in range(readers)]
        try:
            for it in made:
                selector.register(it.socket, selectors.EVENT_READ, it)
            left = len(made)
            while left and time.monotonic() < start + limit:
                for key, _ in selector.select(1.0):
                    if key.data.read():
                        selector.unregister(key.data.socket)
                        left -= 1
            return time.monotonic() - start, sum(it.count for it in made)
        finally:
            for it in made:
                it.socket.close()
