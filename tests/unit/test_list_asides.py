# SPDX-License-Identifier: GPL-2.0
"""What stands beside the addresses: headings, comments, names and words that let in, end, or say what a number is."""

from __future__ import annotations

import pytest
from support.readings import Case, check, load, prefixes

from xdpguard.errors import UsageError
from xdpguard.lists.formats import Request, sources

HOSTS = "192.0.2.1 192.0.2.9"

HEADINGS: dict[str, Case] = {
    "allowed": Case("# blocked\n192.0.2.1\n# allowed\n203.0.113.1\n", None, "list:3: '# allowed' says"),
    "first line": Case("# Whitelist\n203.0.113.1\n", None, "list:1:"),
    "after a blank line": Case("192.0.2.1\n\n;; Trusted hosts:\n\n203.0.113.1\n", None, "list:3:"),
    "section": Case("[block]\n192.0.2.1\n192.0.2.9\n[allow]\n203.0.113.1\n", None, "list:4: '[allow]'"),
    "ruled": Case("=== whitelist ===\n203.0.113.1\n=== blacklist ===\n192.0.2.1\n", None, "list:1:"),
    "colon": Case("allow:\n203.0.113.1\ndeny:\n192.0.2.1\n", None, "list:1:"),
    "do not block": Case("192.0.2.1\n# Don't block these:\n203.0.113.1\n", None, "list:2:"),
    "exceptions": Case("192.0.2.0/24\n# exceptions (2)\n192.0.2.7\n192.0.2.9\n", None, "list:2:"),
    "expired": Case("192.0.2.1\n# expired entries\n192.0.2.9\n", HOSTS, "not to be blocked: 1 line: 2"),
    "history": Case("# removed: 5\n# added\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "good bots": Case("192.0.2.1\n## Good bots\n203.0.113.1\n", None, "list:2:"),
    "among rows": Case("ip,reason\n# blocked\n192.0.2.1,x\n# allowed\n203.0.113.1,y\n", None, "--format csv takes"),
    "value of a zone": Case(":127.0.0.2:x\n192.0.2.1\n:127.0.1.1:whitelisted\n203.0.113.1\n", None, "list:3:"),
    "set": Case("create a hash:ip\nadd a 192.0.2.1\n# whitelist\nadd w 203.0.113.1\n", None, "--format ipset takes"),
    "text between": Case("# Allowed\n# our office\n203.0.113.1\n", None, "list:1:"),
    "asked for": Case("# allowed\n192.0.2.1\n192.0.2.9\n", HOSTS, "", Request("plain")),
    "no entries": Case("block:\n- 192.0.2.1\nallow:\n- 203.0.113.1\n", None, "YAML"),
    "slashes": Case("192.0.2.1\n// trusted\n203.0.113.1\n", None, "list:2:"),
    "aside": Case("# Whitelisted IPs (do not remove)\n203.0.113.1\n", None, "list:1:"),
    "closed": Case("[allow]\n[/allow]\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "none": Case("# whitelist: none\n# blacklist\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "nothing below": Case("192.0.2.1\n192.0.2.9\n# whitelist\n", HOSTS),
    "taken out": Case("192.0.2.1\n# disabled\n#192.0.2.7\n192.0.2.9\n", HOSTS),
    "ended": Case("# allow\n# end of allow\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "another heading": Case("# allow\n# Spammers: block\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "denial": Case("# not allowed\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "prose": Case("# You are allowed to use this list for any purpose, see the licence\n192.0.2.1\n192.0.2.9\n", HOSTS),
    "names of columns": Case("# ip,allowed\n192.0.2.1,no\n203.0.113.1,yes\n192.0.2.9,no\n", HOSTS, "allowed=yes"),
    "rows say it": Case("# permit\n203.0.113.1\tpermit\n192.0.2.1\treject\n192.0.2.9\treject\n", HOSTS, "=permit (1)"),
    "in doubt": Case("# whitelist by mail\n192.0.2.1\n192.0.2.9\n", HOSTS, "not to be blocked: 1 line: 1"),
    "comment over lines": Case("/* old\n203.0.113.1\n*/\n192.0.2.1\n", None, "list:1: '/* old' begins a comment"),
    "comment of XML": Case("192.0.2.1\n<!--\n203.0.113.1\n-->\n", None, "list:2:"),
    "merge": Case("192.0.2.1\n<<<<<<< HEAD\n192.0.2.9\n=======\n>>>>>>> x\n", None, "two versions of a merge"),
}  # fmt: skip

WORDS: dict[str, Case] = {
    "in a comment": Case("192.0.2.1\n192.0.2.9 # whitelisted\n", HOSTS, "may say that an address is let in"),
    "end in a comment": Case("192.0.2.1 # until 2020-01-01\n192.0.2.9\n", HOSTS, "when its block ends"),
    "after a second comment": Case("192.0.2.1 x // expires soon\n192.0.2.9\n", HOSTS, "when its block ends"),
    "after a semicolon": Case("192.0.2.1;spam;1\n203.0.113.1;allow;1\n192.0.2.9;x;1\n", HOSTS, "allow (1)"),
    "first of several": Case("192.0.2.1 REJECT x\n203.0.113.1 OK our office\n192.0.2.9 REJECT y\n", HOSTS, "OK our"),
    "between bars": Case("192.0.2.1 | deny | x\n203.0.113.1 | allow | y\n192.0.2.9 | deny |\n", HOSTS, "allow"),
    "Postfix": Case("192.0.2.1\tREJECT\n203.0.113.1\tOK\n192.0.2.9\tREJECT 550 go away\n", HOSTS, "=OK (1)"),
    "sentences": Case("ip,action\n192.0.2.1,Drop it\n203.0.113.1,Allow it\n192.0.2.9,Drop\n", HOSTS, "Allow it (1)"),
    "one of several values": Case("ip,tags\n192.0.2.1,ssh|scan\n203.0.113.1,x|whitelist\n192.0.2.9,y\n", HOSTS, "=x|"),
    "after the sample": Case("".join(f"192.0.2.{at},deny\n" for at in range(256)) + "203.0.113.1,allow\n",
                             "192.0.2.0/24", "=allow (1)"),
    "in a column of text": Case("192.0.2.1\tspam host\n192.0.2.9\twhitelisted\n", HOSTS, "that do not decide"),
    "yes and no": Case("ip,in_blacklist\n192.0.2.1,1\n203.0.113.1,0\n192.0.2.9,1\n", HOSTS, "in_blacklist=0 (1)"),
    "yes lets in": Case("ip,isInWhitelist\n192.0.2.1,0\n203.0.113.1,1\n192.0.2.9,0\n", HOSTS, "=1 (1)"),
    "an action of another name": Case("ip,event.action\n192.0.2.1,drop\n192.0.2.9,xyzzy\n", HOSTS, "may or may not"),
    "neither yes nor no": Case("ip,allowed\n192.0.2.1,tcp:22\n192.0.2.9,\n", HOSTS, "that a row does not block"),
    "removed at": Case("ip,removed_at\n192.0.2.1,\n203.0.113.1,2020-01-01\n192.0.2.9,\n", HOSTS, "ended (1)"),
    "not after": Case("IP Prefix,Not After\n192.0.2.1,\n203.0.113.1,2020-01-01\n192.0.2.9,\n", HOSTS, "ended (1)"),
    "ends of something": Case("ip,start,end\n192.0.2.1,2026-01-01,2020-01-01\n192.0.2.9,,\n", HOSTS, "may be the ends"),
    "durations": Case("ip,duration\n192.0.2.1,4h\n192.0.2.9,24h\n", HOSTS, "may be the ends of entries"),
    "unblocked": Case("ip,unblocked\n192.0.2.1,no\n203.0.113.1,yes\n192.0.2.9,no\n", HOSTS, "unblocked=yes (1)"),
    "false alarms": Case("ip,status\n192.0.2.1,active\n203.0.113.1,falsepos\n192.0.2.9,x\n", HOSTS, "=falsepos (1)"),
    "outward": Case("src,direction\n192.0.2.1,in\n192.0.2.9,out\n", HOSTS, "traffic that leaves"),
    "behind a proxy": Case("remote_addr,x_forwarded_for\n10.0.0.1,192.0.2.1\n10.0.0.1,192.0.2.9\n", None, "--column"),
    "flags with a name": Case('"enabled","x","y"\n"1","a","192.0.2.1"\n"0","b","203.0.113.1"\n"1","c","192.0.2.9"\n',
                              HOSTS, "enabled=0 (1)"),
    "set of one name": Case("create whitelist hash:ip\nadd whitelist 192.0.2.1\n", "192.0.2.1", "the set whitelist"),
    "nft set": Case("add element inet f allowed_v4 { 192.0.2.1 }\n", "192.0.2.1", "the set allowed_v4"),
    "nft rules": Case("table ip t {\n set s {\n type ipv4_addr\n elements = { 192.0.2.1 }\n }\n chain c {\n "
                      "ip saddr { 198.51.100.1 } drop\n }\n}\n", "192.0.2.1", "addresses in rules"),
    "nft -j rules": Case('{"nftables": [{"set": {"name": "s", "type": "ipv4_addr", "elem": ["192.0.2.1"]}}, {"rule": '
                         '{"expr": [{"match": {"op": "==", "right": "198.51.100.1"}}, {"drop": null}]}}]}', "192.0.2.1",
                         "addresses in rules"),
    "a reason beside an action": Case("ip,reason,action\n192.0.2.1,allowed by rule 5,deny\n192.0.2.9,x,deny\n", HOSTS,
                                      "that do not decide"),
    "nft and more": Case("set s {\n type ipv4_addr\n elements = { 192.0.2.1 }\n}\n192.0.2.9\n", "192.0.2.1",
                         "outside sets"),
    "in other columns": Case("192.0.2.1,x\n192.0.2.9,198.51.100.7\n192.0.2.1,y\n", HOSTS, "addresses in other columns"),
    "in text of no header": Case("192.0.2.1,x\n192.0.2.9,scan from 198.51.100.7\n", HOSTS, "in other columns"),
    "beyond the header": Case("ip,x\n192.0.2.1,a\n192.0.2.9,b,198.51.100.7\n", HOSTS, "addresses in other columns"),
    "end of a zone": Case("$TIMESTAMP 2020:01:01 2021:01:01\n192.0.2.1\n", "192.0.2.1", "end of the whole zone"),
}  # fmt: skip

COLUMNS: dict[str, Case] = {
    "comment under the header": Case("# ip,expires\n# ---------\n192.0.2.1,\n203.0.113.1,2020-01-01\n192.0.2.9,\n",
                                     HOSTS, "ended (1)"),
    "comma at the end": Case("# ip,expires\n192.0.2.1,,\n203.0.113.1,2020-01-01,\n192.0.2.9,,\n", HOSTS, "ended (1)"),
    "title": Case("My list;\nip;expires\n192.0.2.1;\n203.0.113.1;2020-01-01\n192.0.2.9;\n", HOSTS, "ended (1)"),
    "title, told": Case("List;\n\nip;x\n192.0.2.1;a\n192.0.2.9;b\n", HOSTS, "words above the header, passed over"),
    "hosts, then networks": Case("".join(f"192.0.2.{at},32\n" for at in range(256)) + "198.51.100.0,24\n",
                                 "192.0.2.0/24 198.51.100.0/24", "prefix length"),
    "of an unknown name": Case("client,via\n192.0.2.1,10.0.0.1\n192.0.2.9,10.0.0.1\n", HOSTS, "in other columns"),
    "of the attacked": Case("src,dst\n192.0.2.1,10.0.0.1\n192.0.2.9,10.0.0.1\n", HOSTS, "column 1"),
    "sizes": Case("network,size\n192.0.2.0,256\n198.51.100.0,128\n", None, "how many addresses"),
    "count of a start": Case("start,count\n192.0.2.0,64\n198.51.100.0,128\n", None, "how many addresses"),
    "each alone": Case("network,size\n192.0.2.0,256\n198.51.100.0,128\n", "192.0.2.0 198.51.100.0", "",
                       Request("", "", "none")),
    "hits": Case("ip,count\n192.0.2.8,4\n192.0.2.16,2\n", "192.0.2.8 192.0.2.16"),
    "lines of a cell": Case('ip,x\n"192.0.2.1\n192.0.2.9",a\n', HOSTS, "several"),
    "routes": Case("192.0.2.0/24 dev lo\nblackhole 198.51.100.0/24\n", None, "a table of routes"),
}  # fmt: skip

OTHERS: dict[str, Case] = {
    "Cisco": Case("Standard IP access list 10\n    10 deny   192.0.2.1\n    20 permit 198.51.100.1\n", None, "router"),
    "nginx geo": Case("geo $bad {\n default 0;\n 192.0.2.1 1;\n 192.0.2.7 0;\n}\n", None, "a map of nginx"),
    "Apache": Case("deny from 192.0.2.1\ndeny from 192.0.2.9\n", None, "a configuration of rules"),
    "hosts.deny": Case("ALL: 192.0.2.1\nsshd: 192.0.2.9, 192.0.2.11\n", None, "a configuration of rules"),
    "DNS": Case("1.2.0.192 IN A 127.0.0.2\n9.2.0.192 IN A 127.0.0.2\n", None, "a zone of DNS"),
    "patch": Case("--- a/list\n+++ b/list\n@@ -1 +1 @@\n 192.0.2.1\n-192.0.2.7\n", None, "a patch"),
    "YAML": Case("- 192.0.2.1\n- 192.0.2.9\n", None, "YAML"),
    "Markdown": Case("| IP |\n|---|\n| 192.0.2.1 |\n", None, "a table drawn with lines"),
    "XML": Case("<?xml version='1.0'?>\n<ip>192.0.2.1</ip>\n", None, "XML or HTML"),
    "ipset -!": Case("-! create a hash:ip\n-! add a 192.0.2.1\n", None, "a script of ipset"),
    "JSON cut": Case('{"nftables":[{"set":{"name":"b","elem":["192.0.2.1","192.0', None, "ends prematurely"),
    "JSON cut in a value": Case('[{"decisions":[{"value":"192.0.2.1",', None, "ends prematurely"),
    "JSON broken": Case('[{"decisions":[{"value";"192.0.2.1"}]}]', None, "is corrupt"),
    "jail": Case("Status for the jail: sshd\n|- Filter\n`- Actions\n   `- Banned IP list: 192.0.2.1\n", None, "banip"),
    "URLs": Case("http://192.0.2.1/x\nhttps://192.0.2.9/\n", None, "a list of URLs"),
    # what is none of these, though it looks alike
    "P2P": Case("orgd: 192.0.2.0-192.0.2.3\nothd:198.51.100.0-198.51.100.3\n", "192.0.2.0/30 198.51.100.0/30"),
    "IPv6 in letters": Case("dead:beef::1\ncafe::2\nfeed:d::\n", "dead:beef::1 cafe::2 feed:d::"),
    "words": Case("192.0.2.1 a bad host\n192.0.2.9 in a net\n", HOSTS, "words after the address"),
    "URL in a column": Case("https://a.example,192.0.2.1\nhttps://b.example,192.0.2.9\n", HOSTS, "column 2"),
}  # fmt: skip
CASES = HEADINGS | WORDS | COLUMNS | OTHERS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_stands_beside_the_addresses_is_followed_or_told(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("size", [1, 7, 20])
def test_a_heading_in_another_block_than_its_addresses(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    text = b"192.0.2.1\n192.0.2.9\n# allowed\n\n203.0.113.1\n"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    monkeypatch.setattr(sources, "text", lambda _name, _stream: iter(pieces))
    with pytest.raises(UsageError, match="list:3: '# allowed' says"):
        load(Case("", None))


def test_remedies_of_headings_help() -> None:
    for text, form in (
        ("192.0.2.1\n# allowed\n192.0.2.9\n", "plain"),
        ("ip,x\n192.0.2.1,a\n# allowed\n192.0.2.9,b\n", "csv"),
    ):
        with pytest.raises(UsageError) as caught:
            load(Case(text, None))
        assert f"--format {form} " in caught.value.remedy
        assert prefixes(load(Case(text, None, request=Request(form)))) == HOSTS.split()
