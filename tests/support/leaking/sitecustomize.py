# SPDX-License-Identifier: GPL-2.0
"""What Python loads when it starts with this folder in PYTHONPATH: a leak, of memory, descriptors and threads."""

import os
import threading


def _leak() -> None:
    held = []
    while True:
        held.append((bytearray(os.urandom(1 << 20)), os.open(os.devnull, os.O_RDONLY)))
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        threading.Event().wait(0.2)


threading.Thread(target=_leak, daemon=True).start()
