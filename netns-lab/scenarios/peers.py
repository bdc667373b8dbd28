# SPDX-License-Identifier: GPL-2.0
"""The other processes of the SYN-flood scenario (server, clients, download): this file, in a namespace of the lab."""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from topology import CLIENTS4, OUTSIDE4, SERVER4

from xdpguard.net.netns import entered

PORT, BULK = 80, 81  # the flooded port, and one that is not flooded
TIMEOUT = 3.0  # seconds; limit of a connection attempt, including the answer
PATIENCE = 15.0  # seconds; limit for anything that should happen soon

_HERE = Path(__file__)
_PACE = 0.04  # seconds between two connections of a client: ten clients should not load a core themselves
_WORKERS = 16  # threads that accept
_BACKLOG = 4096  # the default of net.core.somaxconn
REQUEST = 18  # bytes of the shortest request; two segments' worth begins at 1,449
_HEAD, _END = b"GET / HTTP/1.0\r\n", b"\r\n"
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200


@dataclass(frozen=True)
class Clients:
    """Results of real clients. Times to set up a connection, in ms; None if there was none."""

    tried: int
    succeeded: int
    median: float | None
    p99: float | None
    answered_median: float | None  # with request and answer
    answered_p99: float | None
    failures: dict[str, int]


class Peer:
    """A server, clients or a download, as a separate process. Use as a context manager."""

    def __init__(self, role: str, namespace: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE), "--as", role, namespace, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(_HERE.parents[1])},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def __enter__(self) -> Peer:
        try:
            self.answer()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def go(self) -> None:
        """Let it begin."""
        self._in.write("go\n")
        self._in.flush()

    def answer(self) -> Any:
        """Return its next output."""
        line = self._out.readline()
        if not line:
            raise SystemExit("syn-flood: a process of the lab ended early; its message is above")
        return json.loads(line)

    def _end(self) -> None:
        self._in.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


def _serve(namespace: str) -> None:
    """Run as the server: threaded, clients speak first; plus one for long transfers. Ends when the parent closes."""
    with entered(namespace):
        short = socket.create_server((SERVER4, PORT), backlog=_BACKLOG)
        bulk = socket.create_server((SERVER4, BULK))
    for target, listener in ((_answer_all, short),) * _WORKERS + ((_transfer_all, bulk),):
        threading.Thread(target=target, args=(listener,), daemon=True).start()
    _say("ready")
    sys.stdin.read()


def _answer_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        connection.settimeout(TIMEOUT)
        try:
            asked = b""
            while not asked.endswith(_END + _END) and (piece := connection.recv(4096)):
                asked += piece
            if asked:
                connection.sendall(_ANSWER)
        except OSError:
            continue
        finally:
            connection.close()


def _transfer_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_transfer, args=(connection,), daemon=True).start()


def _transfer(connection: socket.socket) -> None:
    """Serve a transfer. First byte: hello, echoed. Second: ``d`` to receive, ``u`` to send."""
    piece = bytearray(1 << 18)
    with connection:
        connection.sendall(connection.recv(1))
        down = connection.recv(1) == b"d"
        try:
            while down or connection.recv_into(piece):
                if down:
                    connection.sendall(piece)
        except OSError:
            return


def open_bulk() -> socket.socket:
    """Open a connection for a long transfer, established end to end."""
    connection = socket.create_connection((SERVER4, BULK), TIMEOUT, (OUTSIDE4, 0))
    connection.sendall(b"h")
    connection.recv(1)
    return connection


def move(connection: socket.socket, direction: str, seconds: float) -> float:
    """Transfer for a while; return MB/s. Closes the connection."""
    piece = bytearray(1 << 18)
    moved = 0
    with connection:
        # Close with a reset: data still in flight would disturb the next measurement.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(direction.encode())
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                moved += connection.recv_into(piece) if direction == "d" else connection.send(piece)
            except TimeoutError:
                break
    return moved / seconds / 1e6


def _download(namespace: str, seconds: str) -> None:
    """Run as the long download, on a connection made at once."""
    with entered(namespace):
        connection = open_bulk()
    _say("ready")
    sys.stdin.readline()
    _say(move(connection, "d", float(seconds)))


class _Attempt(NamedTuple):
    """Return the seconds until connected and until answered, or why not."""

    connected: float
    answered: float
    failure: str = ""


def _attempt(source: str, request: bytes) -> _Attempt:
    begin = time.perf_counter()
    connected = 0.0
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.bind((source, 0))
            connection.connect((SERVER4, PORT))
            connected = time.perf_counter() - begin
            connection.settimeout(max(0.001, TIMEOUT - connected))
            connection.sendall(request)
            left = len(_ANSWER)
            while left and (piece := connection.recv(left)):
                left -= len(piece)
        except OSError as error:
            what = "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
            return _Attempt(connected, 0.0, f"{'connected' if connected else 'connecting'}: {what}")
    return _Attempt(connected, time.perf_counter() - begin, "connected: closed early" if left else "")


def _connect(namespace: str, seconds: str, size: str) -> None:
    """Run as the clients, each with an address of its own, one connection after another. ``size``: of a request."""
    attempts: list[_Attempt] = []
    padding = int(size) - REQUEST
    request = _HEAD + (b"X" * (padding - len(_END)) + _END if padding > len(_END) else b"") + _END

    def client(number: int) -> None:
        due = begin + number * _PACE / len(CLIENTS4)
        while due < begin + float(seconds):
            time.sleep(max(0.0, due - time.monotonic()))
            attempts.append(_attempt(CLIENTS4[number], request))
            due = max(due + _PACE, time.monotonic())

    _say("ready")
    sys.stdin.readline()
    begin = time.monotonic()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(CLIENTS4))]
    with entered(namespace):  # threads start in the namespace of their creator
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    _say(asdict(_summary(attempts)))


def _summary(attempts: list[_Attempt]) -> Clients:
    good = [it for it in attempts if not it.failure]
    connected = sorted(it.connected * 1e3 for it in good)
    answered = sorted(it.answered * 1e3 for it in good)
    return Clients(
        tried=len(attempts),
        succeeded=len(good),
        median=statistics.median(connected) if good else None,
        p99=connected[int(len(good) * 0.99)] if good else None,
        answered_median=statistics.median(answered) if good else None,
        answered_p99=answered[int(len(good) * 0.99)] if good else None,
        failures=dict(Counter(it.failure for it in attempts if it.failure)),
    )


_ROLES: dict[str, Callable[..., None]] = {"serve": _serve, "connect": _connect, "download": _download}


def _main() -> None:
    """Run the role for which a Peer started this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--as", dest="role", nargs="+", required=True, metavar=("ROLE", "NAMESPACE"))
    role, *arguments = parser.parse_args().role
    _ROLES[role](*arguments)


if __name__ == "__main__":
    _main()
