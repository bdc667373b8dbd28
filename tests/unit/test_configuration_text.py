# SPDX-License-Identifier: GPL-2.0
"""`xdpguard help configuration` and the package's configuration file: every key is there, with its default."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from xdpguard.errors import UsageError
from xdpguard.policy.attach import AttachOptions
from xdpguard.policy.load import load
from xdpguard.policy.model import RULES, Policy

ROOT = Path(__file__).parents[2]
COMMENTED = re.compile(r"^# (?=\[|[a-z0-9_]+ = )", re.MULTILINE)
# What no value stands for by itself: computed or taken over where the key is left out, or needed.
SHOWN_FOR_NONE = {
    "limits.rules": RULES,
    "fleet.mode": "enforce",
    "fleet.max_per_host": 50_000,
    "lists.NAME.file": "drop.txt",
}
WRONG = ('"wrong"', "-1", "99999999999", "1.5", "true", '["x"]', "[3]", "1979-05-27")


def leaves(kind: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the keys of each value of the configuration, with its field; ``NAME`` for names that are free."""
    for field in msgspec.structs.fields(kind):
        its: Any = field.type
        at = (*path, field.encode_name)
        if at in (("attach",), ("filters",)):  # tables of their own
            continue
        if isinstance(its, type) and issubclass(its, msgspec.Struct):
            yield from leaves(its, at)
        elif get_origin(its) is dict:
            yield from leaves(get_args(its)[1], (*at, "crowdsec" if field.encode_name == "bridges" else "NAME"))
        else:
            yield at, field


LEAVES = [*leaves(Policy), *leaves(AttachOptions, ("attach", "eth0"))]


def shown() -> str:
    """Return the file that the help shows, with what stands behind a comment sign."""
    page = (ROOT / "xdpguard/help/configuration.md").read_text()
    return COMMENTED.sub("", page.split("```toml\n")[1].split("```")[0])


@pytest.mark.parametrize(("keys", "field"), LEAVES, ids=[".".join(keys) for keys, _ in LEAVES])
def test_every_key_is_in_the_help_with_its_default(keys: tuple[str, ...], field: Any) -> None:
    value: Any = tomllib.loads(shown())
    for key in keys:
        value = value[key]
    expected = SHOWN_FOR_NONE.get(".".join(keys), field.default)
    assert (tuple(value) if isinstance(value, list) else value) == expected


def test_the_help_has_no_key_that_the_configuration_has_not(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(shown())
    assert load(file).limits.rules == RULES


def test_the_packages_file_is_right_with_its_comments_taken_off(tmp_path: Path) -> None:
    text = (ROOT / ".debian/debian/default.toml").read_text()
    file = tmp_path / "default.toml"
    for content in (text, COMMENTED.sub("", text)):
        file.write_text(content)
        load(file)
    assert load(file).lists.keys() == {"drop"}


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("keys", [keys for keys, _ in LEAVES], ids=[".".join(keys) for keys, _ in LEAVES])
def test_a_wrong_value_is_told_in_words(tmp_path: Path, keys: tuple[str, ...], value: str) -> None:
    """Each refusal names file, line and key, and none has the words of the library that checks types."""
    file = tmp_path / "x.toml"
    rest = 'file = "x"\n' if keys[0] == "lists" and keys[-1] != "file" else ""
    file.write_text(f"[{'.'.join(keys[:-1])}]\n{keys[-1]} = {value}\n{rest}")
    try:
        load(file)
    except UsageError as error:
        told = str(error)
        assert told.startswith(f"{file}:2: {'.'.join(keys)}: "), told
        assert not re.search(r"enum|`|\b(int|str|bool|array|object|null)\b", told), told
        assert error.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[guard]\nmode = "on"', 'guard.mode: "on" is none of "always", "auto", "observe", "off"'),
        ("[guard]\nmode = 1", 'guard.mode: 1 is none of "always"'),
        ("[limits]\nrules = 5", "limits.rules: 5 is not a whole number from 1024 to 16777216"),
        ('[guard]\noptions = "true"', 'guard.options: "true" is neither true nor false'),
        ('[guard]\nbans = "1h"', 'guard.bans: "1h" is not a list'),
        ("[guard]\nbans = [1]", "guard.bans: 1 is not text"),
        ("[guard]\nbans = []", "guard.bans: the list is empty"),
        ("guard = 5", "guard: 5 is not a table"),
        ('[guard]\nwindow = "11s"', "guard.window: '11s' is out of range"),
        ('[fleet]\nclock_skew = "1500ms"', "fleet.clock_skew: not a duration: '1500ms'"),
        ('[bridges.bgp]\nclock_skew = "x"', "bridges.bgp.clock_skew: not a duration: 'x'"),
        ('[guard]\nmode = ["' + "x" * 500 + '"]', "guard.mode: a list is none of"),
        ('[guard]\nmode = "' + "x" * 500 + '"', 'guard.mode: "' + "x" * 56 + "... is none of"),
    ],
)
def test_what_is_told(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load(file)
    assert says in str(refused.value)


def test_the_bounds_of_durations_are_written_with_their_units(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    for key, bounds in (("window", "100ms to 10s"), ("hold", "1s to 10m"), ("forget", "1m to 3650d")):
        file.write_text(f'[guard]\n{key} = "99w99d"' if key != "forget" else '[guard]\nforget = "1s"')
        with pytest.raises(UsageError) as refused:
            load(file)
        assert refused.value.remedy == bounds
