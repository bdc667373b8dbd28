# SPDX-License-Identifier: GPL-2.0
"""``[attach]``: its meaning, and the errors for an invalid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpguard.errors import UsageError
from xdpguard.policy.attach import AttachTo, parse_place
from xdpguard.policy.load import load


@pytest.mark.parametrize(
    ("text", "netns", "place"),
    [
        ("eth0", "", ("eth0", "")),
        ("eth0@web", "", ("eth0", "web")),
        ("eth0", "web", ("eth0", "web")),
        ("eth0.100@web", "web", ("eth0.100", "web")),
    ],
)
def test_places(text: str, netns: str, place: tuple[str, str]) -> None:
    assert parse_place(text, netns).place == place


@pytest.mark.parametrize("text", ["", "@web", "eth0@", "a b", "a/b", "..", "eth0@a/b", "eth0@a@b", "x" * 128])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError, match="not an interface"):
        parse_place(text)


def test_a_table(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        '[attach]\ninterfaces = ["eth0", "eth1@web"]\n[attach.eth0]\nmode = "native"\n'
        '[attach.eth2]\nnetns = "db"\nobserve = true\n[attach."eth3.7@web"]\n'
    )
    assert load(file).attach == (
        AttachTo("eth0", "", "native"),
        AttachTo("eth1", "web"),
        AttachTo("eth2", "db", observe=True),
        AttachTo("eth3.7", "web"),
    )
    file.write_text("[guard]\n")
    assert load(file).attach == ()


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ('[attach]\ninterfaces = ["eth0", "eth0"]\n', "x.toml:2: attach.interfaces: eth0 is listed twice", "once"),
        (
            '[attach]\ninterfaces = [\n"eth0",\n"a b"]\n',
            "x.toml:4: attach.interfaces: not an interface: 'a b'",
            "eth0@",
        ),
        ('[attach]\ninterfaces = "eth0"\n', "x.toml:2: attach.interfaces: expected a list of names", "eth1@web"),
        ('[attach]\ninterface = ["eth0"]\n', "x.toml:2: attach.interface: unknown key", "interfaces"),
        (
            '\n[attach.eth0]\nmode = "fast"\n',
            'x.toml:3: attach.eth0.mode: "fast" is none of "auto", "generic", "native"',
            "help configuration",
        ),
        (
            "[attach.eth0]\nobserve = 1\n",
            "x.toml:2: attach.eth0.observe: 1 is neither true nor false",
            "without quotes",
        ),
        ("[attach.eth0]\nmtu = 1\n", "x.toml:2: attach.eth0.mtu: unknown key", "netns, mode, observe"),
        ('[attach."eth0@a"]\nnetns = "b"\n', "x.toml:1: attach.eth0@a: eth0@a has a second", "once"),
        ('[attach."eth0@a"]\n[attach.eth0]\nnetns = "a"\n', "attach.eth0: eth0 has two tables", "one"),
        ("attach = 1\n", "x.toml:1: attach: expected a table", "tables by name"),
        ('[[attach]]\nname = "eth0"\n', "attach: expected a table", "tables by name"),
        ("[attack]\n", "attack: unknown key", "attach"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, message: str, remedy: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        load(file)
    assert message in str(refused.value)
    assert remedy in refused.value.remedy
