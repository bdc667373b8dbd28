# SPDX-License-Identifier: GPL-2.0
"""A list file is read as what it is, or refused: what feeds and exports look like, and what each must become."""

from __future__ import annotations

import ipaddress
import random

import pytest
from support.readings import NOW, Case, check, ends, load, merged, prefixes

from xdpguard.errors import UsageError
from xdpguard.lists.formats import Request, sources

HOSTS = "192.0.2.1 192.0.2.9"
CASES: dict[str, Case] = {
    # prefix lengths and netmasks in a column of their own
    "pfx2as": Case("192.0.2.0\t24\t64496\n203.0.113.0\t25\t64499\n", "192.0.2.0/24 203.0.113.0/25", "column 2"),
    "length, comma": Case("192.0.2.0,24\n198.51.100.0,25\n", "192.0.2.0/24 198.51.100.0/25", "prefix length"),
    "length, semicolon": Case("192.0.2.0;24\n198.51.100.0;25\n", "192.0.2.0/24 198.51.100.0/25", "prefix length"),
    "length, blank": Case("192.0.2.0 24\n198.51.100.0 25\n", "192.0.2.0/24 198.51.100.0/25", "prefix length"),
    "length of IPv6": Case("2001:db8::,32\n2001:db9::,48\n", "2001:db8::/32 2001:db9::/48", "prefix length"),
    "named length": Case("network,prefixlen\n192.0.2.0,24\n192.0.3.1,32\n", "192.0.2.0/24 192.0.3.1", "prefixlen"),
    "netmask": Case("192.0.2.0,255.255.255.0\n198.51.100.7,255.255.255.255\n", "192.0.2.0/24 198.51.100.7"),
    "netmask, blank": Case("192.0.2.0 255.255.255.0\n198.51.100.0 255.255.255.128\n", "192.0.2.0/24 198.51.100.0/25"),
    "named netmask": Case("addr;mask\n192.0.2.0;255.255.255.0\n", "192.0.2.0/24", "mask"),
    "wildcard": Case("192.0.2.0 0.0.0.255\n198.51.100.7 0.0.0.0\n", "192.0.2.0/24 198.51.100.7", "wildcard"),
    "named wildcard": Case("address,wildcard\n192.0.2.0,0.0.0.255\n", "192.0.2.0/24", "wildcard"),
    "some have a mask": Case("a,192.0.2.77,,\nb,198.51.100.0,255.255.255.0,24\n", "192.0.2.77 198.51.100.0/24"),
    "length or score": Case("192.0.2.1,24\n198.51.100.7,16\n", None, "--prefix-column"),
    "it is a score": Case("192.0.2.1,24\n198.51.100.7,16\n", "192.0.2.1 198.51.100.7", "", Request("", "", "none")),
    "it is a length": Case("192.0.2.1,24\n", "192.0.2.0/24", "", Request("", "", "2")),
    "number of addresses": Case("192.0.2.0,256\n198.51.100.0,256\n", None, "--prefix-column"),
    "length elsewhere": Case("192.0.2.0,DE,24\n198.51.100.0,FR,25\n", None, "--prefix-column 3"),
    "length before": Case("24,192.0.2.0\n25,198.51.100.0\n", None, "--prefix-column 1"),
    "slash and blank": Case("192.0.2.0 /24\n", None, "--prefix-column 2"),
    "slash, taken": Case("192.0.2.0 /24\n", "192.0.2.0/24", "", Request("", "", "2")),
    "counts": Case("192.0.2.1\t9\n192.0.2.9\t3\n", HOSTS, "column 1"),
    "stray length": Case("198.51.100.1\n198.51.100.2\n192.0.2.0 24\n", "198.51.100.1 198.51.100.2", "prefix length"),
    "bad length": Case("ip,mask\n192.0.2.0,24\n192.0.2.9,33\n", "192.0.2.0/24", "not a prefix length"),
    # the first row is data
    "OTX rows": Case("IPv4,192.0.2.77,\nIPv4,198.51.100.7,x\n", "192.0.2.77 198.51.100.7"),
    "host objects": Case("host,a,192.0.2.77\nhost,b,198.51.100.7\n", "192.0.2.77 198.51.100.7"),
    "IPv6 in the first row": Case("ip,2001:db8::a\nip,2001:db8::c\n", "2001:db8::a 2001:db8::c"),
    "letters only": Case("abc,fe::\nabc,fd::\n", "fd:: fe::"),
    "a header": Case("Wer,Was\n192.0.2.1,x\n192.0.2.9,y\n", HOSTS, "header wer was"),
    "first row with a port": Case("host,192.0.2.7:80\nhost,192.0.2.1\nhost,192.0.2.9\n", HOSTS, "port"),
    # several addresses on a line
    "pairs": Case("192.0.2.71;192.0.2.90\n198.51.100.8;198.51.100.20\n", None, "--format addresses"),
    "pairs, each": Case("192.0.2.1;192.0.2.9\n", HOSTS, "every", Request("addresses")),
    "pairs, ranges": Case("192.0.2.0,192.0.2.7\n", "192.0.2.0/29", "first", Request("ranges")),
    "triples": Case("192.0.2.1 192.0.2.9 192.0.2.11\n", None, "several addresses on one line"),
    "ragged": Case("192.0.2.1,198.51.100.7\n192.0.2.9\n", "192.0.2.1 198.51.100.7 192.0.2.9", "several"),
    "ragged by bars": Case("192.0.2.1|198.51.100.7\n192.0.2.9\n", "192.0.2.1 198.51.100.7 192.0.2.9", "several"),
    "stray second": Case("192.0.2.1\n192.0.2.9\n10.0.0.1 10.0.0.2 x\n", HOSTS, "several addresses on one line"),
    "behind a hyphen": Case("192.0.2.1\n192.0.2.9\n10.0.0.1 - 10.0.0.2 - 10.0.0.3\n", HOSTS, "several addresses"),
    "behind a hash": Case("192.0.2.1 # 198.51.100.7\n192.0.2.9\n", HOSTS, "addresses in comments"),
    "behind words": Case("192.0.2.1 ; see 2001:db8::1\n192.0.2.9\n", HOSTS, "addresses in comments"),
    "in a cell": Case("ip,x\n192.0.2.1;198.51.100.7,a\n192.0.2.9,b\n", "192.0.2.9", "another one"),
    "ends of networks": Case("203.0.113.0\t203.0.113.255\t24\n198.51.100.0\t198.51.100.255\t24\n",
                             "203.0.113.0/24 198.51.100.0/24", "ranges from columns 1 and 2"),
    # not a ban
    "action": Case("ip,action\n192.0.2.1,deny\n192.0.2.7,allow\n192.0.2.9,block\n", HOSTS, "action=allow (1)"),
    "permit in larger": Case("prefix,action\n192.0.2.0/30,deny\n192.0.2.3,permit\n", "192.0.2.0/31 192.0.2.2"),
    "without names": Case("deny,192.0.2.1\npermit,192.0.2.7\ndeny,192.0.2.9\n", HOSTS, "=permit (1)"),
    "enabled": Case("ip,enabled\n192.0.2.1,true\n192.0.2.7,false\n192.0.2.9,true\n", HOSTS, "enabled=false (1)"),
    "to_ids": Case("value,to_ids\n192.0.2.1,1\n192.0.2.7,0\n192.0.2.9,True\n", HOSTS, "to_ids=0 (1)"),
    "status": Case("ip,status\n192.0.2.1,active\n192.0.2.7,Inactive\n192.0.2.9,active\n", HOSTS, "Inactive"),
    "whitelisted": Case("ip,isWhitelisted\n192.0.2.1,False\n192.0.2.7,True\n192.0.2.9,\n", HOSTS, "True (1)"),
    "type": Case("type,ip\ninclude,192.0.2.0/30\nexclude,192.0.2.3\n", "192.0.2.0/31 192.0.2.2", "type=exclude"),
    "levels": Case("192.000.002.000 - 192.000.002.003 , 100 , a\n198.51.100.0 - 198.51.100.9 , 128 , b\n",
                   "192.0.2.0/30", "level 128 and above"),
    "Postfix": Case("192.0.2.1 REJECT\n192.0.2.7 OK\n192.0.2.9 REJECT\n", HOSTS, "OK (1)"),
    "behind a semicolon": Case("192.0.2.1;deny\n192.0.2.7;allow\n192.0.2.9;deny\n", HOSTS, "=allow (1)"),
    "iptables": Case("network,target\n192.0.2.1,DROP\n192.0.2.7,ACCEPT\n192.0.2.9,DROP\n", HOSTS, "target=ACCEPT"),
    "any name": Case("ip,remark\n192.0.2.1,bad\n192.0.2.7,whitelist\n192.0.2.9,bad\n", HOSTS, "remark=whitelist"),
    "domains": Case("indicator,type\n192.0.2.1,ip\nbad.example,domain\n192.0.2.9,ip\n", HOSTS, "type=domain (1)"),
    # who attacked
    "client": Case("_time,host,clientip\n1,10.0.0.1,192.0.2.1\n2,10.0.0.1,192.0.2.9\n", HOSTS, "clientip"),
    "dest, src": Case("dest,src\n10.0.0.1,192.0.2.1\n10.0.0.1,192.0.2.9\n", HOSTS, "src"),
    "IIS": Case("date,s-ip,c-ip\n1,10.0.0.1,192.0.2.1\n2,10.0.0.1,192.0.2.9\n", HOSTS, "c_ip"),
    "two sources": Case("src_ip,client_ip\n10.0.0.1,192.0.2.1\n10.0.0.2,192.0.2.9\n", None, "--column"),
    "the second of them": Case("src_ip,client_ip\n10.0.0.1,192.0.2.1\n10.0.0.2,192.0.2.9\n", HOSTS, "",
                               Request("", "client_ip")),
    "by number": Case("10.0.0.1,192.0.2.1\n10.0.0.2,192.0.2.9\n", HOSTS, "", Request("", "2")),
    "a range by numbers": Case("a,192.0.2.0,192.0.2.7\n", "192.0.2.0/29", "", Request("", "2,3")),
    "logged by host": Case("_time,host,client\n1,10.0.0.1,web.example\n2,10.0.0.2,a.example\n", None, "--column"),
    "no such column": Case("ip,x\n192.0.2.1,a\n", None, "no column nosuch", Request("", "nosuch")),
    # numbers that are no addresses
    "times": Case("1700000000,1700003599\n1700003600,1700007199\n", None, "no entries"),
    "milliseconds": Case("1700000000000,1700000000511\n1700000000512,1700000001023\n", None, "no entries"),
    "start and end": Case("user,start,end\na,1700000000,1700003599\n", None, "no"),
    "integers": Case("ip_from,ip_to\n3221225984,3221225991\n", "192.0.2.0/29", "integers"),
    "version": Case("product,version\na,1.2.3.4\nb,2.3.4.5\n", None, "--column"),
    "version beside": Case("ip,version\n192.0.2.1,1.2.3.4\n192.0.2.9,2.3.4.5\n", HOSTS, "column 1"),
    "oid": Case("name,oid\na,1.3.6.1\nb,1.3.6.2\n", None, "--column"),
    # ends
    "ipset": Case("create a hash:ip timeout 600\nadd a 192.0.2.1 timeout 4\nadd a 192.0.2.9\n", HOSTS),
    "nft": Case("elements = { 192.0.2.1 timeout 1d expires 9s6ms, 192.0.2.9 }", HOSTS),
    "expires": Case("ip,expires\n192.0.2.1,2030-01-01\n192.0.2.7,2020-01-01T00:00:00Z\n192.0.2.9,\n", HOSTS, "ended"),
    "epoch": Case("ip,valid_until\n192.0.2.1,1895000000\n192.0.2.7,1695000000\n192.0.2.9,\n", HOSTS, "ended (1)"),
    "unclear end": Case("ip,expires\n192.0.2.1,soon\n192.0.2.9,later\n", HOSTS, "cannot be read"),
    "banip --with-time": Case("192.0.2.1 \t2026-11-17 10:00:00 + 864000 = 2026-11-27 10:00:00\n"
                              "192.0.2.7 \t2026-11-01 10:00:00 + 600 = 2026-11-01 10:10:00\n", "192.0.2.1", "ended"),
    "CrowdSec": Case('[{"value":"192.0.2.1","scope":"Ip","type":"ban","duration":"4h"}]', "192.0.2.1"),
    # exceptions
    "mark": Case("192.0.2.0/30\n!192.0.2.3\n", "192.0.2.0/31 192.0.2.2", "exceptions: 1"),
    "mark, IPv6": Case("2001:db8::/126\n!2001:db8::3\n", "2001:db8::/127 2001:db8::2", "exceptions: 1"),
    "except": Case("192.0.2.0/30\nexcept 192.0.2.3\n", "192.0.2.0/31 192.0.2.2", "exceptions: 1"),
    "unreadable exception": Case("192.0.2.0/24\n!192.0.2\n", None, "exception that cannot be read"),
    "entry in an exception": Case("192.0.2.0/24\n!192.0.2.0/28\n192.0.2.3\n", None, "exception"),
    "an exception out of an IPv6 range": Case(
        "2001:db8::1-2001:db8::6\n!2001:db8::3\n", "2001:db8::1 2001:db8::2 2001:db8::4/127 2001:db8::6"
    ),
    "nomatch": Case("add a 192.0.2.0/30\nadd a 192.0.2.2/31 nomatch\nadd a 192.0.2.3\n", "192.0.2.0/31 192.0.2.3"),
    "rbldnsd": Case("$NS 86400 ns.example.\n:127.0.0.2:x\n192.0.2.0/30 :127.0.0.3:y\n!192.0.2.3\n",
                    "192.0.2.0/31 192.0.2.2", "rbldnsd"),
    "except on one line": Case("198.51.100.1\n198.51.100.2\n192.0.2.0/24 except 192.0.2.7\n",
                               "198.51.100.1 198.51.100.2", "several addresses on one line"),
    # comments
    "EDL": Case("192.0.2.1 seen twice\n192.0.2.9 // x\n", HOSTS, "words after the address"),
    "dashes": Case("-- a\n192.0.2.1 -- b\n192.0.2.9\n! Title: x\n", HOSTS, "words"),
    "spreadsheet": Case("\ufeffsep=;\r\n\"IP\";\"Grund\"\r\n\"192.0.2.1\";\"x\"\r\n\"192.0.2.9\";\"y\"\r\n", HOSTS),
    "UTF-16": Case("IP\tGrund\r\n192.0.2.1\tx\r\n192.0.2.9\ty\r\n".encode("utf-16"), HOSTS, "tab"),
    "Zeek": Case("#separator \\x09\n#fields\tindicator\tindicator_type\tmeta.source\n#types\tstring\tenum\tstring\n"
                 "192.0.2.1\tIntel::ADDR\tx\nbad.example\tIntel::DOMAIN\tx\n192.0.2.9\tIntel::ADDR\tx\n", HOSTS, "DOM"),
    "Suricata reputation": Case("192.0.2.1,1,100\n192.0.2.9,2,90\n", HOSTS, "column 1"),
    "GeoIP": Case("network,geoname_id,is_anonymous_proxy\n192.0.2.0/24,1,0\n198.51.100.0/25,2,0\n",
                  "192.0.2.0/24 198.51.100.0/25", "network"),
    # something else
    "AS numbers": Case('{"asn":64496,"rir":"arin"}\n{"asn":64497,"rir":"arin"}\n', None, "AS numbers"),
    "JSON lines": Case('{"src_ip":"192.0.2.1"}\n{"src_ip":"192.0.2.9"}\n', None, "JSON lines"),
    "AWS": Case('{"prefixes": [{"ip_prefix": "192.0.2.0/24"}]}', None, "without decisions or sets"),
    "hosts file": Case("127.0.0.1 localhost\n0.0.0.0 ads.example\n0.0.0.0 b.example\n", None, "hosts file"),
    "access log": Case('192.0.2.1 - - [27/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1\n', None, "access log"),
    "delegated": Case("ripencc|FR|ipv4|192.0.2.0|256|20100712|allocated\n", None, "statistics"),
    "BIND": Case('acl "bad" {\n192.0.2.64/26;\n!192.0.2.77;\n};\n', None, "BIND"),
    "Cisco": Case("ip prefix-list B deny 192.0.2.0/24\nip prefix-list B seq 9 deny 192.0.3.0/24\n", None, "router"),
    "MikroTik": Case("/ip firewall address-list\nadd address=192.0.2.1 list=bad\n", None, "firewall's configuration"),
    "nginx": Case("deny 192.0.2.1;\ndeny 192.0.2.9;\nallow all;\n", None, "a configuration of rules"),
    "OpenIOC": Case("<ioc>\n<Content type=\"IP\">192.0.2.1</Content>\n</ioc>\n", None, "XML or HTML"),
    "RPZ": Case("$TTL 1h\n@ IN SOA a. b. 1 1 1 1 1\n32.1.2.0.192.rpz-ip CNAME .\n", None, "not an address"),
    "mostly prose": Case("192.0.2.1\nthis\nthat\n", None, "2 lines are not entries"),
    "forced ipset": Case("192.0.2.1\n", None, "not in the format ipset", Request("ipset")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_a_file_becomes(case: Case) -> None:
    check(case)


EMPTY = {
    "nothing": "",
    "comments": "# none at this time\n; none\n",
    "null": "null",
    "array": "[]",
    "object": "{}",
    "decisions": '{"new": null, "deleted": null}',
    "ipset": "create bans hash:ip family inet timeout 600\n",
    "nft": "table inet f {\n set bans {\n type ipv4_addr\n }\n}\n",
    "nft -j": '{"nftables": [{"metainfo": {}}, {"set": {"name": "a", "type": "ipv4_addr"}}]}',
    "a header": "ip,reason\n",
}


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
def test_a_list_that_is_empty_on_purpose(text: str) -> None:
    with pytest.raises(UsageError, match="no entries") as caught:
        load(Case(text, None))
    assert "--allow-empty" in caught.value.remedy
    assert prefixes(load(Case(text, "", request=Request(allow_empty=True)))) == []


@pytest.mark.parametrize("text", ["<html>\n", "www.example.org\n", "table ip t {\n chain c {\n }\n}\n"])
def test_what_is_not_empty_but_no_list_stays_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no entries"):
        load(Case(text, None, request=Request(allow_empty=True)))


def test_requests_that_are_not_valid() -> None:
    for request in (Request("xml"), Request("ipset", "2"), Request("", "a,b,c"), Request("", "1,2", "3")):
        with pytest.raises(UsageError) as caught:
            load(Case("192.0.2.1\n", None, request=request))
        assert caught.value.remedy


HOUR, DAY = 3600, 86_400
# By format: a file, and the end of each prefix in seconds from now, rounded up, 0 for none.
ENDS: dict[str, tuple[str, dict[str, int]]] = {
    "ipset": (
        "create a hash:net timeout 600\nadd a 192.0.2.1 timeout 4\nadd a 192.0.2.9\nadd a 2001:db8::/32 timeout 9\n"
        "create b hash:ip\nadd b 192.0.2.7\n",
        {"192.0.2.1": 4, "192.0.2.7": 0, "192.0.2.9": 600, "2001:db8::/32": 9},
    ),
    "nft": (
        "table ip t {\nset s {\ntype ipv4_addr\ntimeout 1h\nelements = { 192.0.2.1 timeout 1d expires 9s6ms,"
        " 192.0.2.2-192.0.2.3 timeout 1d, 192.0.2.9 }\n}\n}\n",
        {"192.0.2.1": 10, "192.0.2.2/31": DAY, "192.0.2.9": HOUR},
    ),
    "nft -j": (
        '{"nftables":[{"set":{"name":"s","type":"ipv4_addr","timeout":60,"elem":[{"elem":{"val":"192.0.2.1",'
        '"timeout":90,"expires":30}},"192.0.2.9"]}}]}',
        {"192.0.2.1": 30, "192.0.2.9": 60},
    ),
    "CrowdSec, JSON": (
        '[{"value":"192.0.2.1","scope":"Ip","type":"ban","duration":"4h0m0.5s"},'
        '{"value":"192.0.2.9","scope":"Ip","type":"ban","until":"2026-11-19T00:00:00Z"},'
        '{"value":"192.0.2.7","scope":"Ip","type":"ban"}]',
        {"192.0.2.1": 4 * HOUR + 1, "192.0.2.7": 0, "192.0.2.9": 1_795_046_400 - int(NOW)},
    ),
    "CrowdSec, raw": (
        "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n"
        "1,x,Ip:192.0.2.1,r,ban,,,1,1h2m3s,false,7\n2,x,Range:192.0.2.8/29,r,ban,,,1,90s,false,8\n",
        {"192.0.2.1": HOUR + 123, "192.0.2.8/29": 90},
    ),
    "columns": (
        "ip,expires,ttl\n192.0.2.1,2030-01-01T00:00:00Z,\n192.0.2.7,,30\n192.0.2.9,,\n2001:db8::1,1795000007,99\n"
        "192.0.2.3,9999-12-31,\n",
        {"192.0.2.1": 1_893_456_000 - int(NOW), "192.0.2.3": 0, "192.0.2.7": 30, "192.0.2.9": 0, "2001:db8::1": 7},
    ),
    "ranges in columns": (
        "ip_from,ip_to,expires\n192.0.2.0,192.0.2.7,1795000007\n2001:db8::1,2001:db8::2,1795000009\n",
        {"192.0.2.0/29": 7, "2001:db8::1": 9, "2001:db8::2": 9},
    ),
    "JSON lines": (
        '{"cidr":"192.0.2.0/24","sblid":"x","expires":1795000007}\n{"cidr":"198.51.100.0/24","sblid":"y"}\n',
        {"192.0.2.0/24": 7, "198.51.100.0/24": 0},
    ),
    "banip --with-time": (
        "192.0.2.1 \t2026-11-17 10:00:00 + 864000 = 2026-11-27 10:00:00\n192.0.2.9\n2001:db8::1\n",
        {"192.0.2.1": 1_795_773_600 - int(NOW), "192.0.2.9": 0, "2001:db8::1": 0},
    ),
    "an exception leaves pieces": (
        "create a hash:net timeout 600\nadd a 192.0.2.9 timeout 5\nadd a 192.0.2.0/30\nadd a 192.0.2.2 nomatch\n"
        "add a 2001:db8:1:: timeout 7\nadd a 2001:db8::/126 timeout 9\nadd a 2001:db8::1 nomatch\n"
        "add a 198.51.100.7 timeout 0\n",
        {"192.0.2.0/31": 600, "192.0.2.3": 600, "192.0.2.9": 5, "198.51.100.7": 0}
        | {"2001:db8::": 9, "2001:db8::2/127": 9, "2001:db8:1::": 7},
    ),
    "an exception leaves pieces of ranges": (
        "ip_from,ip_to,expires,action\n2001:db8:1::1,2001:db8:1::2,1795000005,deny\n"
        "2001:db8::1,2001:db8::4,1795000009,deny\n2001:db8::3,2001:db8::3,,allow\n",
        {"2001:db8::1": 9, "2001:db8::2": 9, "2001:db8::4": 9, "2001:db8:1::1": 5, "2001:db8:1::2": 5},
    ),
    "the latest end of several": (
        "add a 192.0.2.0/31 timeout 5\nadd a 192.0.2.1 timeout 9\nadd a 192.0.2.1 timeout 4\n"
        "add a 192.0.2.9 timeout 7\nadd a 192.0.2.9\n",
        {"192.0.2.0": 5, "192.0.2.1": 9, "192.0.2.9": 0},
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_each_entry(name: str) -> None:
    text, wanted = ENDS[name]
    found = load(Case(text, None))
    assert ends(found) == {prefix: int(NOW) + end if end else 0 for prefix, end in wanted.items()}
    assert found.ending > 0


def test_ends_in_blocks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some blocks of a file have entries with an end, others have none."""
    monkeypatch.setattr(sources, "BLOCK", 64)
    lines = [f"192.0.2.{place}" for place in range(0, 200, 2)]
    until = {20: "2026-11-27 10:00:00", 120: "2026-11-28 10:00:00"}
    for place, when in until.items():
        lines[place // 2] += f" \t2026-11-17 10:00:00 + 864000 = {when}"
    held = ends(load(Case("\n".join(lines) + "\n", None)))
    assert len(held) == 100
    assert {prefix for prefix, end in held.items() if end} == {"192.0.2.20", "192.0.2.120"}


def test_a_list_without_ends_has_none() -> None:
    assert load(Case("192.0.2.1\n192.0.2.9\n", None)).ends is None
    assert load(Case("create a hash:ip\nadd a 192.0.2.1\n", None)).ends is None


# -- mutations: a set that an independent reading does not give is never taken without a word


def independent(text: str) -> set[str] | None:
    """All entries of lines that are one entry, or an entry and a first column's rest; None if one is anything else."""
    found: set[str] = set()
    for line in text.split("\n"):
        body = line.split("#")[0].split(";")[0].strip(" ,|\t")
        if not body:
            continue
        try:
            found.add(str(ipaddress.ip_network(body, strict=False)))
        except ValueError:
            return None
    return found


SEEDS = [
    "192.0.2.1\n198.51.100.0/24\n203.0.113.9\n2001:db8::1\n192.0.2.77\n",
    "192.0.2.1 # a\n198.51.100.7\n203.0.113.0/25\n",
]
TABLES = ["192.0.2.1,x,y\n198.51.100.7,y,x\n203.0.113.9,z,y\n", "ip;note\n192.0.2.1;x\n198.51.100.7;y\n"]
INSERTS = [
    ",",
    ";",
    "\t",
    " ",
    "|",
    "!",
    "-",
    "#",
    "/24",
    " 24",
    ",24",
    "10.0.0.7",
    ";10.0.0.7",
    " 10.0.0.7",
    " allow",
    "\n",
]


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        match chance.randrange(4):
            case 0:
                text = text[:at] + text[at + 1 :] or "\n"
            case 1:
                text = text[:at] + chance.choice(INSERTS) + text[at:]
            case 2:
                text = text[:at] + chance.choice("0123456789./:") + text[at + 1 :]
            case _:
                lines = text.split("\n")
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                text = "\n".join(lines)
    return text


def test_mutations_never_change_a_plain_list_without_a_word() -> None:
    chance = random.Random(20261128)
    quiet = 0
    for _ in range(2500):
        text = mutated(chance.choice(SEEDS), chance)
        try:
            found = load(Case(text, None))
        except UsageError:
            continue
        if found.notes or found.faults or found.format == "csv":
            continue
        expected = independent(text)
        assert expected is not None, repr(text)
        assert prefixes(found) == merged(" ".join(expected)), repr(text)
        quiet += 1
    assert quiet > 100


def first_cells(text: str, mark: str) -> set[str] | None:
    """The entries of the first column, below a header if there is one; None if a cell of it is anything else."""
    found: set[str] = set()
    lines = [line for line in text.split("\n") if line.strip() and line.strip()[0] not in "#;"]
    for line in lines[1:] if mark == ";" and lines and "." not in lines[0].split(mark)[0] else lines:
        try:
            found.add(str(ipaddress.ip_network(line.split(mark)[0].split("#")[0].strip(" \t;"), strict=False)))
        except ValueError:
            return None
    return found


def test_mutations_never_change_a_table_without_a_word() -> None:
    chance = random.Random(8)
    quiet = 0
    for _ in range(2500):
        number = chance.randrange(len(TABLES))
        text = mutated(TABLES[number], chance)
        try:
            found = load(Case(text, None))
        except UsageError:
            continue
        if found.notes or found.faults or found.cleared:
            continue
        expected = first_cells(text, ",;"[number])
        assert expected is not None, repr(text)
        assert prefixes(found) == merged(" ".join(expected)), repr(text)
        quiet += 1
    assert quiet > 100
