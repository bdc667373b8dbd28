# SPDX-License-Identifier: GPL-2.0
"""How people and programs write an address, a prefix or a range: read as what it is, or refused with the reason."""

from __future__ import annotations

import pytest
from support.readings import Case, check

HOSTS = "192.0.2.1 192.0.2.9"
MORE = "\n192.0.2.1\n192.0.2.9\n"  # so that one wrong line does not refuse the file

CASES: dict[str, Case] = {
    # ranges
    "en dash": Case("192.0.2.0\u2013192.0.2.3\n198.51.100.0 \u2013 198.51.100.1\n", "192.0.2.0/30 198.51.100.0/31"),
    "to": Case("192.0.2.0 to 192.0.2.3\n2001:db8:: to 2001:db8::3\n", "192.0.2.0/30 2001:db8::/126"),
    "dots": Case("192.0.2.0..192.0.2.3 # x\n198.51.100.0-198.51.100.1\n", "192.0.2.0/30 198.51.100.0/31"),
    "reversed, to": Case("192.0.2.9 to 192.0.2.1" + MORE, HOSTS, "a reversed range"),
    "shortened range": Case("192.0.2.1-4\n", None, "write both of its addresses in full"),
    "shortened range of IPv6": Case("2001:db8::1-4" + MORE, HOSTS, "a shortened range"),
    "numbers": Case("3221225985-3221225995" + MORE, HOSTS, "a number, and not an address"),
    # prefixes
    "netmask": Case("192.0.2.0/255.255.255.0\n128.0.0.0/192.0.0.0\n", "192.0.2.0/24 128.0.0.0/2"),
    "wildcard mask": Case("198.51.100.0/0.0.0.255" + MORE, HOSTS, "not a netmask; write a prefix length"),
    "holes in a netmask": Case("198.51.100.0/255.0.255.0" + MORE, HOSTS, "not a netmask"),
    "netmask of IPv6": Case("2001:db8::/255.255.0.0" + MORE, HOSTS, "not a netmask"),
    "mapped": Case("::ffff:192.0.2.0/120\n::ffff:198.51.100.7\n", "192.0.2.0/24 198.51.100.7"),
    "mapped, length of IPv4": Case("::ffff:198.51.100.0/24" + MORE, HOSTS, "an IPv4-mapped address"),
    "mapped, many": Case("2001:db8::/64\n::ffff:198.51.100.0/24\n2001:db8:1::/64\n", "2001:db8::/64 2001:db8:1::/64",
                         "an IPv4-mapped address"),
    "path": Case("198.51.100.7/1\n198.51.100.7/1/login.php" + MORE, HOSTS, "perhaps a mistake"),
    "path of IPv6": Case("2001:db8::7/8" + MORE, HOSTS, "perhaps a mistake"),
    "short and whole": Case("128.0.0.0/1\n10.1.2.3/8\n2000::/3\n", "128.0.0.0/1 10.0.0.0/8 2000::/3"),
    # addresses
    "wildcards": Case("198.51.100.*\n198.51.*.*" + MORE + "192.0.2.1\n", HOSTS, "a wildcard; write a prefix"),
    "shortened": Case("198.51.100/24" + MORE, HOSTS, "a shortened address"),
    "made harmless": Case("198[.]51[.]100[.]7" + MORE, HOSTS, "with brackets; write it without them"),
    "port": Case("198.51.100.7:80" + MORE, HOSTS, "an address with a port"),
    "section": Case("[others]" + MORE, HOSTS, "not an address, prefix or range"),
    "time": Case("10:00" + MORE, HOSTS, "not an address, prefix or range"),
    # words
    "off": Case("198.51.100.7 off" + MORE, HOSTS, "left out: off (1)"),
    "unbanned": Case("198.51.100.7 unbanned" + MORE, HOSTS, "left out: unbanned (1)"),
    "rule": Case("drop from 192.0.2.0 to 192.0.2.9\n", None, "several addresses on one line, among other"),
    "Caddy": Case("@bad remote_ip 192.0.2.1 198.51.100.7\n", None, "among other words"),
    "only addresses": Case("198.51.100.1 198.51.100.2 198.51.100.3" + MORE, HOSTS, "--format addresses takes each"),
    "port in a cell": Case('"a","192.0.2.1:443","x"\n', None, "'192.0.2.1:443' is an address with a port"),
    "padded in a cell": Case("192.000.002.001\t1\t2\n192.000.002.009\t1\t2\n", None, "'192.000.002.001' is a leading"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_notation_becomes(case: Case) -> None:
    check(case)
