# SPDX-License-Identifier: GPL-2.0
"""What people type, put in force: what the kernel then does, and what is asked before much is removed."""

from __future__ import annotations

import http.server
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.terminal import Terminal
from support.traffic import PORT, client_address, eventually, works
from topology import INTERFACE, SERVER4, Lab

_LIST = b"198.51.100.1\n198.51.100.16/28\n"

pytestmark = pytest.mark.usefixtures("echo")


def targets(command: Command, *more: str) -> list[str]:
    return [it["target"] for it in command.json("rules", *more)]


@pytest.mark.parametrize(
    "word", ["{0}.1-{0}.254", "{0}.0/255.255.255.0", "{0}.*", "198.51.100.200,{0}.0/24", "{0}.1-254"], ids=str
)
def test_sources_that_are_dropped(lab: Lab, attached: Command, word: str) -> None:
    network = client_address(4).rpartition(".")[0]
    assert works(lab, 4, "tcp")
    attached.ok("block", word.format(network), "--for", "1 hour", "--force")
    assert not works(lab, 4, "tcp")
    attached.ok("unblock", "--match", f"{network}.0/24", "--yes")
    assert works(lab, 4, "tcp")


@pytest.mark.parametrize("word", [f"{PORT - 1}-{PORT + 1}/tcp", f"tcp/{PORT}", f"1,{PORT}/tcp"])
def test_ports_that_are_closed(lab: Lab, attached: Command, word: str) -> None:
    assert works(lab, 4, "tcp")
    attached.ok("block", "--port", word, "--force")
    assert not works(lab, 4, "tcp")
    assert works(lab, 4, "udp"), "another protocol"
    attached.ok("unblock", "--all", "--yes")
    assert works(lab, 4, "tcp")


def test_permanent_makes_a_block_permanent(attached: Command) -> None:
    attached.ok("block", "198.51.100.200", "--for", "1h30m")
    attached.ok("block", "198.51.100.200", "--for", "permanent")
    assert [it["expires"] for it in attached.json("rules")] == [None]


def test_explain_of_a_connection_to_a_port(lab: Lab, attached: Command) -> None:
    client = client_address(4)
    passing = attached.json("explain", client, "--port", str(PORT))
    assert (passing["verdict"], passing["packet"]) == ("PASS", f"tcp {client}:40000 > {SERVER4}:{PORT} S")
    attached.ok("block", client)
    assert not works(lab, 4, "tcp")
    for words in ((client, "--port", f"{PORT}/udp"), (client, "to", f"{SERVER4}:{PORT}")):
        found = attached.json("explain", *words)
        assert (found["verdict"], found["decided_by"]["target"]) == ("DROP", client)
    attached.ok("unblock", client)
    attached.ok("block", "--port", f"{PORT}/tcp", "--force")
    assert attached.json("explain", client, "--port", str(PORT))["reason"] == "closed_port"
    attached.ok("filter", "add", "mine", f"tcp dport {PORT - 5}-{PORT}", "--count")
    tcp, udp = attached.json("explain", str(PORT))
    assert (tcp["closed"]["target"], [it["filter"] for it in tcp["filters"]]) == (f"{PORT}/tcp", ["mine"])
    assert (udp["closed"], udp["filters"]) == (None, [])


def test_explain_of_a_prefix(attached: Command) -> None:
    attached.ok("block", "198.51.100.0/24", "198.51.100.64/26")
    attached.ok("lists", "load", "bad", "-", stdin="198.51.100.130\n")
    found = attached.json("explain", "198.51.100.128/25")
    assert [it["target"] for it in found["block"]] == ["198.51.100.0/24"]
    assert found["inside"] == []
    assert [it["holds"] for it in found["lists"]] == ["198.51.100.130"]
    found = attached.json("explain", "198.51.0.0/16")
    assert (found["block"], found["inside_total"]) == ([], 2)
    text = attached.ok("explain", "198.51.0.0/16")
    assert text.startswith("198.51.0.0/16: no rule or list for all of it\n")
    assert "198.51.100.130" in text
    assert "which is part of it" in text
    assert attached.ok("explain", "198.51.100.0/25").startswith("198.51.100.0/25: blocked\n")


def test_interfaces_files_and_counts_without_their_options(lab: Lab, attached: Command, tmp_path: Path) -> None:
    attached.ok("block", client_address(4))
    assert not works(lab, 4, "tcp")
    assert list(attached.json("stats", INTERFACE)["interfaces"]) == [f"{INTERFACE}@{lab.server}"]
    assert "attached: " in attached.refused(2, "stats", "nosuch0")
    assert eventually(lambda: len(attached.json("events", "-n", "1")["events"]) == 1)
    attached.ok("capture", str(tmp_path / "x.pcap"), "--for", "1s")
    assert (tmp_path / "x.pcap").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert attached.ok("guard", "set", "mode", "observe") == "mode = observe\n"
    assert attached.json("guard", "show")["policy"]["mode"] == "observe"
    attached.ok("lists", "load", "bad", "-", stdin="198.51.100.1\n")
    assert "bad" in attached.ok("lists", "ls")
    assert attached.ok("lists", "rm", "bad") == "removed bad: 1 entry\n"


def test_global_options_after_the_command(command: Command) -> None:
    command.ok("block", "198.51.100.200")
    assert targets(command) == ["198.51.100.200"]
    assert targets(command, "--instance", f"{command.instance}x") == []
    assert targets(command, f"--instance={command.instance}", "-v") == ["198.51.100.200"]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of an https server, and the file of its certificate. It has /list, and /away leads to http."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/list": 200, "/away": 302, "/short": 200}.get(self.path, 404))
            self.send_header("Location", "http://127.0.0.1/list")
            self.send_header("Content-Length", "100" if self.path == "/short" else str(len(_LIST)))
            self.end_headers()
            self.wfile.write(_LIST)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=lists"]
    line += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "ca")]
    subprocess.run(line, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca", tmp_path / "key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", str(tmp_path / "ca")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_list_from_a_url(command: Command, served: tuple[str, str]) -> None:
    url, certificate = served
    assert "certificate verify failed" in command.refused(1, "lists", "load", "bad", f"{url}/list")
    assert "loaded bad: 2 entries" in command.ok("lists", "load", "bad", f"{url}/list", SSL_CERT_FILE=certificate)
    (held,) = command.json("lists", "show")
    assert (held["entries"], held["file"]) == (2, f"{url}/list")
    for path, sentence in (
        ("away", "could be changed on its way"),
        ("none", "404"),
        ("short", f"{len(_LIST)} of 100 bytes"),
    ):
        done = command("lists", "load", "bad", f"{url}/{path}", SSL_CERT_FILE=certificate)
        assert done.code
        assert sentence in done.err
    assert [it["entries"] for it in command.json("lists", "show")] == [2]


def test_what_rules_shows(command: Command) -> None:
    command.ok("block", "198.51.100.1", "--reason", "Port scan", "--for", "2h")
    command.ok("block", "198.51.100.2", "--for", "1h")
    command.ok("block", "203.0.113.7")
    command.ok("block", "198.51.100.3", "--shadow", "--reason", "scan")
    command.ok("allow", "198.51.100.0/24")
    assert targets(command, "--match", "scan") == ["198.51.100.1", "198.51.100.3"]
    assert targets(command, "--match", "198.51.100.0/30") == ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
    assert targets(command, "--sort", "expires", "--kind", "block") == ["198.51.100.2", "198.51.100.1", "203.0.113.7"]
    assert targets(command, "--expiring", "90m") == ["198.51.100.2"]
    assert targets(command, "--sort", "created", "--top", "1") == ["198.51.100.1"]
    summary = r"^5 rules: 1 allow, 3 block, 1 shadow; 2 with an end, the next in (5\dm \d+s|1h); 0 packets hit$"
    assert re.search(summary, command.ok("rules"), re.MULTILINE)
    assert "2 of 5 rules: 1 block, 1 shadow" in command.ok("rules", "--match", "scan")
    assert command.ok("rules", "--match", "nosuch") == "none of 5 rules\n"


def test_the_most_hits_come_first(lab: Lab, attached: Command) -> None:
    attached.ok("block", "198.51.100.1", client_address(4))
    assert not works(lab, 4, "udp")
    assert targets(attached, "--sort", "hits") == [client_address(4), "198.51.100.1"]
    assert targets(attached, "--top", "1") == [client_address(4)]


def test_rules_again_and_again(command: Command) -> None:
    command.ok("block", "198.51.100.1")
    watching = subprocess.Popen(
        command.line("rules", "--watch", "0.2", "--json"), env=command.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert watching.stdout is not None
        assert len(json.loads(watching.stdout.readline())) == 1
        command.ok("block", "198.51.100.2")
        assert any(len(json.loads(watching.stdout.readline())) == 2 for _ in range(100))
    finally:
        watching.terminate()
        watching.communicate()


def test_nothing_is_removed_unasked(command: Command) -> None:
    command.ok("block", "198.51.100.1", "198.51.100.2", "--reason", "scan")
    command.ok("block", "--port", "8080/tcp")
    command.ok("allow", "198.51.100.9")
    for words in (["--all"], ["--match", "scan"], ["--origin", "cli"]):
        assert "nobody can be asked; to remove them without being asked: --yes" in command.refused(2, "unblock", *words)
    for answer, left in (("n", 4), ("", 4), ("y", 1)):
        with Terminal(command.line("unblock", "--all"), command.environment, columns=100) as terminal:
            terminal.sees("this removes 2 blocks and 1 closed port; go on? [y/N]:")
            assert terminal.end(f"{answer}\r") == (0 if answer == "y" else 1)
        assert len(targets(command)) == left
    assert targets(command) == ["198.51.100.9"], "what is allowed stays"
    assert "undone" in command.ok("undo")
    assert len(targets(command)) == 4
    assert command.ok("unblock", "--match", "scan", "--yes") == "removed 2 blocks\n"
    assert command.ok("unblock", "--origin", "cli", "--yes") == "removed 1 closed port\n"
    assert command.ok("unblock", "--all", "--yes") == "nothing is blocked\n"
    assert "there is no block" in command.refused(1, "unblock", "--match", "scan", "--yes")


def test_only_what_an_origin_wants_is_removed(command: Command) -> None:
    command.ok("block", "198.51.100.1", "--origin", "fail2ban")
    command.ok("block", "198.51.100.1", "198.51.100.2")
    said = command.ok("unblock", "--origin", "cli", "--yes")
    assert said.startswith("removed 2 blocks\n198.51.100.1 ")
    assert [(it["target"], it["source"]) for it in command.json("rules")] == [("198.51.100.1", "fail2ban")]
    assert command.ok("unblock", "--origin", "fail2ban", "--yes") == "removed 1 block\n"
    assert targets(command) == []


def test_config_check(command: Command, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[guard]\nmode = "x"\n[rules]\nblock = ["1.2.3.256"]\n')
    done = command("config", "check", str(tmp_path / "x.toml"))
    assert done.code == 2
    assert [line.split(": ")[1] for line in done.err.splitlines()] == [f"{tmp_path}/x.toml:{at}" for at in (2, 4)]
    done = command("config", "check", str(tmp_path / "x.toml"), "--json")
    assert done.code == 2
    assert [(it["line"], it["key"]) for it in json.loads(done.out)["mistakes"]] == [
        (2, "guard.mode"),
        (4, "rules.block"),
    ]
    (tmp_path / "x.toml").write_text('[rules]\nblock = ["1.2.3.4"]\n')
    assert "no mistakes; 0 interfaces, 1 rule, 0 lists, 0 filters" in command.ok(
        "config", "check", f"{tmp_path}/x.toml"
    )
