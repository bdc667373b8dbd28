# SPDX-License-Identifier: GPL-2.0
"""What other programs write and is no list, columns that leave a doubt, and files that are not plain text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from support.readings import Case, check

from xdpguard.lists.formats import Request

HOSTS = "192.0.2.1 192.0.2.9"
PLAIN = "192.0.2.1\n192.0.2.9\n"

OTHERS: dict[str, Case] = {
    "iptables -S": Case("-P INPUT ACCEPT\n-A INPUT -s 192.0.2.1/32 -j DROP\n", None, "iptables rules"),
    "iptables": Case("iptables -A INPUT -s 192.0.2.1 -j DROP\n", None, "iptables rules"),
    "iptables-save": Case("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.1 -j DROP\n", None, "iptables rules"),
    "nft rules": Case("add rule inet f i ip saddr 192.0.2.1 drop\n", None, "nftables rules"),
    "ipset list": Case("Name: a\nType: hash:net\nMembers:\n192.0.2.0/24\n192.0.2.7 nomatch\n", None, "ipset save"),
    "ipset list -o xml": Case('<ipsets>\n<ipset name="a">\n<elem>192.0.2.1</elem>\n', None, "ipset save"),
    "ipset commands": Case("ipset create a hash:ip\nipset add a 192.0.2.1\n", None, "ipset save"),
    "ipset del": Case("add a 192.0.2.1\nadd a 192.0.2.9\ndel a 192.0.2.1\n", None, "list:3: a script"),
    "ipset flush, then add": Case("create a hash:ip\nflush a\nadd a 192.0.2.1\nadd a 192.0.2.9\n", HOSTS),
    "ipset add, then flush": Case("create a hash:ip\nadd a 192.0.2.1\nflush a\n", None, "removes entries"),
    "nft delete": Case("add element ip f s { 192.0.2.1, 192.0.2.9 }\ndelete element ip f s { 192.0.2.9 }\n", None,
                       "list:2: a script that also removes"),
    "nft flush, then add": Case("flush set ip f s\nadd element ip f s { 192.0.2.1, 192.0.2.9 }\n", HOSTS, "nftables"),
    "nft add, then flush": Case("add element ip f s { 192.0.2.1 }\nflush set ip f s\n", None, "removes elements"),
    "fail2ban-client banned": Case("[{'sshd': ['192.0.2.1', '192.0.2.9']}]\n", None, "fail2ban-client get JAIL banip"),
    "nginx geo": Case("192.0.2.1 1;\n192.0.2.9 0;\n", None, "a map of nginx"),
    "semicolon at the end": Case("192.0.2.1;\n192.0.2.9;\n", HOSTS),
    "Junos": Case("policy-options {\n  prefix-list B {\n    192.0.2.0/24;\n", None, "firewall's configuration"),
    "BIRD": Case("define B = [\n192.0.2.0/24{24,32},\n198.51.100.0/24\n];\n", None, "firewall's configuration"),
    "RPSL": Case("route: 192.0.2.0/24\norigin: AS64496\n", None, "routing registry"),
    "arp": Case("192.0.2.1  ether  02:00:00:00:00:01  C  eth0\n", None, "neighbours"),
    "a web page": Case("<!DOCTYPE html>\n<p>\n192.0.2.1\n192.0.2.9\n", None, "a web page"),
    "Git LFS": Case("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", None, "git lfs pull"),
    "JSON lines that let in": Case('{"cidr":"192.0.2.1","action":"deny"}\n{"cidr":"198.51.100.0/24","action":"allow"}\n'
                                   '{"cidr":"192.0.2.9","sblid":"SBL1"}\n', HOSTS, "left out: action=allow (1)"),
    "JSON lines that end": Case('{"cidr":"192.0.2.1","expires":"2020-01-01"}\n{"cidr":"192.0.2.9"}\n',
                                "192.0.2.9", "ended"),
}  # fmt: skip

COLUMNS: dict[str, Case] = {
    "0 and 1": Case("192.0.2.1,1\n192.0.2.9,0\n", None, "column 2 holds 1 and 0"),
    "true and false before": Case("true,192.0.2.1\nfalse,192.0.2.9\n", None, "--column 2 takes every row"),
    "all rows": Case("192.0.2.1,1\n192.0.2.9,0\n", HOSTS, "", Request("", "1")),
    "yes only": Case("192.0.2.1,1\n192.0.2.9,1\n", HOSTS),
    "some are empty": Case("192.0.2.0/32,,1\n192.0.2.1,,0\n192.0.2.9,1,\n", "192.0.2.0/31 192.0.2.9"),
    "named for something else": Case("ip,seen\n192.0.2.1,true\n192.0.2.9,false\n", HOSTS),
    "masks with holes": Case("192.0.2.0 0.0.0.255\n198.51.100.0 0.0.255.0\n", None, "--prefix-column 2"),
    "read as masks": Case("192.0.2.0 0.0.0.255\n198.51.100.0 0.0.255.0\n", "192.0.2.0/24", "not a netmask",
                          Request("", "", "2")),
    "hosts with wildcard masks": Case("192.0.2.1 0.0.0.0\n192.0.2.9 0.0.0.0\n", None, "--prefix-column 2"),
    "read as hosts": Case("192.0.2.1 0.0.0.0\n192.0.2.9 0.0.0.0\n", HOSTS, "wildcard mask", Request("", "", "2")),
    "one column of blanks": Case("192.0.2.1 198.51.100.7 x\n192.0.2.9 198.51.100.8 x\n", HOSTS, "", Request("", "1")),
    "Snort": Case("alert ip [192.0.2.1,192.0.2.5,192.0.2.9] any -> $HOME_NET any (sid:1;)\n", None, "so does the text"),
    "assignment": Case("BLOCK=192.0.2.1,192.0.2.9\n", None, "so does the text in 1"),
    "report": Case("Rule Name: x\nRemoteIP:  192.0.2.1/32,192.0.2.9/32\n", None, "so does the text in 1"),
    "one column of it": Case("BLOCK=192.0.2.1,192.0.2.9\n", "192.0.2.9", "column 2", Request("", "2")),
    "the same address in a comment": Case("192.0.2.1,ban of 192.0.2.1\n192.0.2.9,ban of 192.0.2.9\n", HOSTS),
    "named comment": Case("ip,comment\n192.0.2.1,from 10.0.0.1\n192.0.2.9,from 10.0.0.1\n", HOSTS),
    "a cell over two lines": Case('ip,comment\n192.0.2.1,"seen with\n203.0.113.200, twice"\n192.0.2.9,"x"\n', HOSTS),
    "a cell over three lines": Case('ip,note\n192.0.2.1,"a\n203.0.113.1\n203.0.113.2"\nx,"x"\n192.0.2.9,y\n', HOSTS),
    "a quote left open": Case('ip,comment\n192.0.2.1,"a\n192.0.2.9,b\n', HOSTS, "a quote that is not closed"),
    "Aktion": Case("IP;Aktion\n192.0.2.1;sperren\n192.0.2.7;erlauben\n192.0.2.9;sperren\n", HOSTS, "erlauben (1)"),
    "autoriser": Case("adresse;action\n192.0.2.1;bloquer\n192.0.2.7;autoris\u00e9\n192.0.2.9;bloqu\u00e9\n", HOSTS),
    "aktiv": Case("ip,aktiv\n192.0.2.1,ja\n192.0.2.7,nein\n192.0.2.9,ja\n", HOSTS, "aktiv=nein (1)"),
    "unknown action": Case("ip,action\n192.0.2.1,xyzzy\n192.0.2.9,deny\n", HOSTS, "words that may or may not block"),
    "known actions": Case("ip,action\n192.0.2.1,Drop\n192.0.2.9,deny\n", HOSTS, "column 1 (ip)"),
    "challenge": Case("ip,action\n192.0.2.1,block\n192.0.2.7,js_challenge\n192.0.2.9,block\n", HOSTS, "challenge (1)"),
    "integers": Case("ip,count\n3221225985,3\n", None, "column 1 (ip) holds no addresses: '3221225985' is a number"),
    "with ports": Case("ioc_value,type\n192.0.2.1:443,ip:port\n", None, "is an address with a port"),
    "integer ranges": Case("start_ip,end_ip\n3221225984,3221225991\n", "192.0.2.0/29", "integers"),
    "two of one cell": Case("Address Block,Name\n192.0.2.1,x\n192.0.2.9,y\n\"192.0.0.170, 192.0.0.171\",z\n",
                            HOSTS + " 192.0.0.170/31"),
}  # fmt: skip


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("list.txt", PLAIN)
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("list.txt")
        member.size = len(PLAIN)
        archive.addfile(member, io.BytesIO(PLAIN.encode()))
    return made.getvalue()


BINARIES: dict[str, Case] = {
    "UTF-16, no mark": Case(PLAIN.encode("utf-16-le"), HOSTS),
    "UTF-16, big end first, no mark": Case(PLAIN.encode("utf-16-be"), HOSTS),
    "UTF-32": Case(PLAIN.encode("utf-32"), None, "UTF-32; convert it"),
    "zip": Case(zipped(), None, "a zip archive"),
    "tar": Case(tarred(), None, "a tar archive; unpack it first"),
    "tar.gz": Case(gzip.compress(tarred()), None, "a tar archive"),
    "gz twice": Case(gzip.compress(gzip.compress(PLAIN.encode())), None, "gzip data inside gzip data"),
    "bz2": Case(bz2.compress(PLAIN.encode()), None, "bzip2 data"),
    "xz": Case(lzma.compress(PLAIN.encode()), None, "xz data"),
    "zeros": Case(bytes(100), None, "not text"),
    "short": Case("::1\n".encode("utf-16-le"), "::1"),
}


@pytest.mark.parametrize("case", (OTHERS | COLUMNS | BINARIES).values(), ids=OTHERS | COLUMNS | BINARIES)
def test_read_as_what_it_is_or_refused_with_the_reason(case: Case) -> None:
    check(case)
