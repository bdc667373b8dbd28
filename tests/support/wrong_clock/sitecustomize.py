# SPDX-License-Identifier: GPL-2.0
"""What Python loads when it starts with this folder in PYTHONPATH: a clock that is wrong.

It is ahead by the seconds in the file AHEAD, which may change. The clocks that never step are as they are.
"""

import os
import time
from pathlib import Path

_time, _time_ns, _file = time.time, time.time_ns, Path(os.environ["AHEAD"])
time.time = lambda: _time() + int(_file.read_text())
time.time_ns = lambda: _time_ns() + int(_file.read_text()) * 10**9
