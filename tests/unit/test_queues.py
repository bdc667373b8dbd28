# SPDX-License-Identifier: GPL-2.0
"""Whether each CPU has a transmit queue for answers, as virtio_net assigns them."""

from __future__ import annotations

import pytest

from xdpguard.net import ethtool, queues
from xdpguard.net.ethtool import Channels
from xdpguard.net.links import Link, Xdp


def link(attached: bool) -> Link:
    return Link("eth0", "", 7, 1500, False, True, "", Xdp(5, "native") if attached else None)


@pytest.mark.parametrize(
    ("driver", "channels", "attached", "shared"),
    [
        ("virtio_net", Channels(1, 1), False, True),
        ("virtio_net", Channels(2, 2), False, True),
        ("virtio_net", Channels(2, 4), False, False),
        ("virtio_net", Channels(3, 4), False, True),
        ("virtio_net", Channels(1, 1), True, True),
        ("virtio_net", Channels(2, 2), True, True),
        ("virtio_net", Channels(4, 4), True, False),
        ("veth", Channels(1, 1), False, False),
        ("virtio_net", None, False, False),
    ],
)
def test_who_shares(
    monkeypatch: pytest.MonkeyPatch, driver: str, channels: Channels | None, attached: bool, shared: bool
) -> None:
    def told(name: str) -> Channels:
        assert name == "eth0"
        if channels is None:
            raise OSError
        return channels

    monkeypatch.setattr(ethtool, "driver", lambda name: driver)
    monkeypatch.setattr(ethtool, "channels", told)
    found = queues.shared(link(attached), 2)
    assert bool(found) is shared
    notes = queues.notes(link(attached), "native", found, 2)
    assert bool(notes) is shared
    if notes:
        assert f"at most {channels.most}" in notes[0] if channels else False
        assert "queues=4" in notes[0]
    assert not queues.notes(link(attached), "generic", found, 2)
