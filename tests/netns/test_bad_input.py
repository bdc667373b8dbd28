# SPDX-License-Identifier: GPL-2.0
"""Every wrong input gets its exit code and one line with a remedy, and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.captures import pcap
from support.command import Command
from topology import INTERFACE, Lab

from xdpguard.instance import ATTACHED


@pytest.fixture(scope="module")
def _attached(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """An instance that is attached to a link of its own: other tests need the lab's."""
    made = Command(tmp_path_factory.mktemp("attached") / "state")
    link = ["ip", "-n", lab.server, "link"]
    subprocess.run([*link, "add", "calm0", "type", "veth", "peer", "name", "calm1"], check=True)
    try:
        made.ok("attach", "calm0", "--netns", lab.server)
        made.ok("block", "203.0.113.7", "--reason", "must stay as it is")
        yield made
    finally:
        made.clean()
        subprocess.run([*link, "del", "calm0"], check=True)


@pytest.fixture
def attached(_attached: Command) -> Iterator[Command]:
    """The same for all tests, as none of them changes anything."""
    before = _attached.json("rules")
    assert [rule["target"] for rule in before] == ["203.0.113.7"]
    yield _attached
    assert _attached.json("rules") == before
    assert [it["state"] for it in _attached.json("status")["interfaces"]] == ["attached"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["block", "198.51.100.256"], "not an address"),
        (["block", "198.51.100"], "not an address"),
        (["block", "nosuch.invalid"], "no host of that name is found"),
        (["block", "198.51.100.0/33"], "/0 to /32"),
        (["block", "198.51.100.0/"], "prefix length"),
        (["block", "198.51.100.0/-1"], "prefix length"),
        (["block", "2001:db8::/129"], "/0 to /128"),
        (["block", "fe80::1%eth0"], "zone"),
        (["block", "198.51.100.9-198.51.100.1"], "runs backwards"),
        (["block", ""], "not an address"),
        (["block", "10.0.0.1", "nonsense"], "nonsense"),
        (["block", "10.0.0.1", "--for", "0s"], "duration"),
        (["block", "10.0.0.1", "--for", "10"], "duration"),
        (["block", "10.0.0.1", "--for", "10y"], "duration"),
        (["block", "10.0.0.1", "--for", "-5m"], "duration"),
        (["block", "10.0.0.1", "--for", "99999999d"], "duration"),
        (["block", "--port", "0/tcp"], "not a port"),
        (["block", "--port", "65536/tcp"], "not a port"),
        (["block", "--port", "80/sctp"], "not a port"),
        (["block", "--port", "nosuchservice"], "not a port"),
        (["block", "--port", "80/tcp,x"], "not a port"),
        (["block"], "no target"),
        (["allow"], "no target"),
        (["block", "10.0.0.1", "--reason", "two\nlines"], "control characters"),
        (["stats", "--watch", "0.001"], "too short"),
        (["stats", "--watch", "nan"], "too short"),
        (["stats", "--watch", "1e300"], "too long"),
        (["block", "10.0.0.1", "--for", "9" * 5000 + "s"], "duration"),
        (["block", "10.0.0.0/" + "9" * 5000], "prefix length"),
        (["block", "10.0.0.1", "--reason", "\udcff"], "not valid UTF-8: byte 0xff"),
        (["detach", "--all", "--netns", "nosuch"], "every namespace"),
        (["--instance", "abc\n", "status"], "instance name"),
        (["detach"], "--all"),
        (["attach", "nosuch0"], "no interface 'nosuch0'"),
        (["attach", INTERFACE, "--netns", "nosuch"], "no network namespace 'nosuch'"),
        (["attach", INTERFACE, "--netns", "../etc"], "no network namespace"),
        (["attach", INTERFACE, "--config", "/nosuch.toml"], "/nosuch.toml: cannot be read: there is no such file"),
        (["--instance", "a/b", "status"], "instance name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(attached: Command, arguments: list[str], says: str) -> None:
    assert says in attached.refused(2, *arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["block", "0.0.0.0/0"], "every IPv4 address"),
        (["block", "::/0"], "every IPv6 address"),
        (["allow", "0.0.0.0/0"], "would let every IPv4 address in"),
        (["allow", "::/0"], "would let every IPv6 address in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused_although_it_is_well_formed(attached: Command, arguments: list[str], says: str) -> None:
    refused = attached.refused(1, *arguments)
    assert says in refused
    assert "--force" in refused


@pytest.mark.parametrize("arguments", [["nosuch"], ["attach"], ["block", "--nosuch"], ["stats", "--watch", "x"]])
def test_what_the_parser_refuses(attached: Command, arguments: list[str]) -> None:
    result = attached(*arguments)
    assert result.code == 2
    assert result.err.startswith("xdpguard: ")
    assert "; " in result.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["unblock", "10.0.0.1"], "10.0.0.1 is not blocked"),
        (["unblock", "203.0.113.7", "10.0.0.1"], "10.0.0.1 is not blocked"),
        (["disallow", "10.0.0.1"], "10.0.0.1 is not allowed"),
        (["unblock", "--port", "80/tcp"], "80/tcp is not closed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there(attached: Command, arguments: list[str], says: str) -> None:
    line = attached.refused(1, *arguments)
    assert says in line
    assert "nothing was changed" in line


def test_unblocking_inside_a_prefix_names_the_prefix(command: Command) -> None:
    command.ok("block", "203.0.113.0/24")
    assert "inside 203.0.113.0/24" in command.refused(1, "unblock", "203.0.113.7")


def test_host_bits_are_cleared_and_said(command: Command) -> None:
    result = command("block", "203.0.113.77/24", "2001:db8::1/32")
    assert result.code == 0
    assert "203.0.113.77/24 has host bits set; taken as 203.0.113.0/24" in result.err
    assert [rule["target"] for rule in command.json("rules")] == ["203.0.113.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "stdin: no targets"),
        ("# nothing\n\n ; here\n", "stdin: no targets"),
        ("10.0.0.1\n10.0.0.2\noops\n10.0.0.3\n", "stdin:3: not an address or prefix: 'oops'"),
        (b"10.0.0.1\n\xff\xfe\n", "stdin:2:"),
        (b"\x00" * 50, "stdin:1:"),
        ("1" * 100_000, "stdin:1: the line is longer"),
    ],
    ids=["empty", "comments only", "third line", "not text", "binary", "long line"],
)
def test_standard_input(attached: Command, text: str | bytes, says: str) -> None:
    assert says in attached.refused(2, "block", "-", stdin=text)


def test_standard_input_with_comments_marks_and_line_ends(command: Command) -> None:
    result = command("block", "-", stdin=b"\xef\xbb\xbf10.0.0.1 # first\r\n10.0.0.1\r\n2001:db8::1 ; second\r\n")
    assert result.code == 0
    assert [rule["target"] for rule in command.json("rules")] == ["10.0.0.1", "2001:db8::1"]


CONFIGS = [
    ("not toml", "[limits\n", "guard.toml:1: not TOML"),
    ("unknown key", "[limits]\nruls = 5\n", "guard.toml:2: limits.ruls: unknown key; allowed here: rules"),
    ("unknown table", "[limit]\n", "guard.toml:1: limit: unknown key; allowed here: limits"),
    (
        "wrong type",
        '[sanity]\n\nbad_flags = "yes"\n',
        'guard.toml:3: sanity.bad_flags: "yes" is neither true nor false',
    ),
    ("too small", "[limits]\nrules = 1\n", "guard.toml:2: limits.rules: 1 is not a whole number from 1024 to 16777216"),
    ("wrong address", '[rules]\nblock = [\n "10.0.0.1",\n "x",\n]\n', "guard.toml:4: rules.block: not an address"),
    ("wrong port", '[rules]\nports = ["80/icmp"]\n', "guard.toml:2: rules.ports: not a port"),
    ("not text", b"\xff\xfe", "not UTF-8"),
    ("nested too deep", "a = " + "[" * 20000, "not TOML"),
    ("a number too long", "[limits]\nrules = " + "9" * 5000, "not TOML"),
]


@pytest.mark.parametrize(("text", "says"), [case[1:] for case in CONFIGS], ids=[case[0] for case in CONFIGS])
def test_configuration(lab: Lab, command: Command, tmp_path: Path, text: str | bytes, says: str) -> None:
    path = tmp_path / "guard.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = command.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", str(path))
    assert says in line
    assert not command.pins.exists()


def _bounded(command: Command, kept: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these capabilities and no other."""
    words = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in kept)
    return subprocess.run(
        ["setpriv", f"--bounding-set=-all{words}", *command.line(*arguments)],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_command_names_the_capability_it_lacks(lab: Lab, command: Command) -> None:
    """With what is named, it works; without one of them, one line names that, and nothing has changed."""
    attach = ["attach", INTERFACE, "--netns", lab.server]
    command.ok(*attach)
    for arguments in (attach, ["status"], ["explain", "10.0.0.1"], ["detach", "--all"]):
        for lacking in ("CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"):
            gone = {lacking, "CAP_SYS_ADMIN"} if lacking == "CAP_PERFMON" else {lacking}  # it stands for the former
            kept = tuple(name for name in ATTACHED if name not in gone)
            done = _bounded(command, kept, *arguments)
            assert done.returncode == 3, (arguments, lacking, done)
            (line,) = done.stderr.strip().splitlines()
            assert lacking in line
            assert "unexpected" not in line
        assert _bounded(command, ATTACHED, *arguments).returncode == 0
    command.ok("block", "10.0.0.1")
    assert _bounded(command, ("CAP_BPF",), "rules").returncode == 0
    assert _bounded(command, ("CAP_BPF",), "block", "10.0.0.3").returncode == 0
    done = _bounded(command, (), "block", "10.0.0.2")
    assert (done.returncode, done.stderr) == (3, "xdpguard: this needs root (CAP_BPF); run it with sudo\n")
    assert len(command.json("rules")) == 2


@pytest.mark.parametrize("kept", ["+bpf", "+sys_admin"])
def test_privileges_that_are_enough(command: Command, kept: str) -> None:
    done = subprocess.run(
        ["setpriv", f"--bounding-set=-all,{kept}", *command.line("block", "10.0.0.1")],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [("raise ImportError('none')", "bcc is not available"), ("", "another package of that name")],
    ids=["none", "the lattice library"],
)
def test_no_bcc(lab: Lab, command: Command, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "bcc.py").write_text(text)
    fake = str(tmp_path / "fake")
    line = command.refused(3, "attach", INTERFACE, "--netns", lab.server, PYTHONPATH=fake)
    assert says in line
    assert "python3-bpfcc" in line
    command.ok("block", "10.0.0.1", PYTHONPATH=fake)  # needs no bcc
    result = command("doctor", PYTHONPATH=fake)
    assert result.code == 3
    assert "FAIL  bcc" in result.out


def test_no_bpf_file_system(lab: Lab, command: Command, tmp_path: Path) -> None:
    line = command.refused(3, "attach", INTERFACE, "--netns", lab.server, XDPGUARD_BPFFS=str(tmp_path))
    assert f"mount -t bpf bpf {tmp_path}" in line


def test_inside_ip_netns_exec_it_says_how_to_do_it(lab: Lab, command: Command) -> None:
    """The pins are hidden there: no command may take that for nothing being attached."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", "10.0.0.1")
    for arguments in (
        ["attach", INTERFACE],
        ["block", "10.0.0.2"],
        ["unblock", "10.0.0.1"],
        ["detach", INTERFACE],
        ["status"],
        ["rules"],
        ["stats"],
        ["explain", "10.0.0.1"],
        ["guard", "show"],
    ):
        done = subprocess.run(
            ["ip", "netns", "exec", lab.server, *command.line(*arguments)],
            env=command.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3, (arguments, done)
        assert "no BPF file system at /sys/fs/bpf" in done.stderr, (arguments, done)
        assert "--netns" in done.stderr
    assert [rule["target"] for rule in command.json("rules")] == ["10.0.0.1"]
    assert len(command.json("status")["interfaces"]) == 1


def test_a_damaged_store(lab: Lab, command: Command) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", "10.0.0.1")
    good = command.store.read_bytes()
    for bad in (b"this is no database, and long enough to be one" * 40, good[:4096] + os.urandom(len(good) - 4096)):
        command.store.write_bytes(bad)
        for arguments in (["block", "10.0.0.2"], ["rules"], ["status"], ["attach", INTERFACE, "--netns", lab.server]):
            line = command.refused(1, *arguments)
            assert "damaged" in line
            assert str(command.store) in line
        assert command.store.read_bytes() == bad
    command.store.write_bytes(good)
    assert len(command.json("rules")) == 1


def test_a_read_only_state_directory(lab: Lab, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(state)], check=True)
    command = Command(state)
    try:
        for arguments in (["attach", INTERFACE, "--netns", lab.server], ["block", "10.0.0.1"]):
            line = command.refused(3, *arguments)
            assert f"cannot write {state}" in line
            assert "XDPGUARD_STATE_DIR" in line
        assert command.json("rules") == []
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_nothing_attached(command: Command) -> None:
    for arguments in (["stats"], ["syns"]):
        assert "attach an interface first" in command.refused(1, *arguments)
    assert "nothing is attached" in command.ok("status")
    assert "nothing is attached" in command.ok("detach", "--all")


def test_a_reader_that_goes_away(command: Command) -> None:
    command.ok("block", "-", stdin="".join(f"10.0.{n // 256}.{n % 256}\n" for n in range(5000)))
    line = " ".join(command.line("rules"))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -1"],
        env=command.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirection", ["<&-", "</dev/zero"])
def test_standard_input_that_is_none(command: Command, redirection: str) -> None:
    line = " ".join(command.line("block", "-"))
    done = subprocess.run(
        ["bash", "-c", f"{line} {redirection}"], env=command.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_output_that_cannot_be_written(command: Command) -> None:
    line = " ".join(command.line("status", "--json"))
    done = subprocess.run(
        ["bash", "-c", f"{line} >/dev/full"], env=command.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("xdpguard: ")
    assert "Traceback" not in done.stderr


def test_a_write_that_was_killed_is_taken_back_by_a_reader(command: Command) -> None:
    command.ok("block", "10.0.0.1")
    code = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('BEGIN')\n"
        "for n in range(20000): database.execute('INSERT INTO facts VALUES (?, ?)', (str(n), 'x' * 50))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(command.store)], check=False)
    assert command.store.with_name("store.db-journal").exists(), "the test's own setting: a hot journal"
    assert [rule["target"] for rule in command.json("rules")] == ["10.0.0.1"]


def uncached(command: Command, folder: Path) -> dict[str, str]:
    """Its environment, with nothing compiled before."""
    return command.environment | {"XDPGUARD_CACHE_DIR": str(folder / "compiled")}


def test_a_compiler_error_is_explained(lab: Lab, command: Command, tmp_path: Path) -> None:
    """A broken source gives one line with file and line of it, and all of the compiler's words with -v."""
    script = tmp_path / "broken.py"
    script.write_text(
        "import sys\n"
        "from xdpguard.dataplane.build import compiler\n"
        "real = compiler.bundle\n"
        "compiler.bundle = lambda *a: real(*a).replace('packet->later_fragment = offset', 'packet->nosuch = 0', 1)\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    for verbose in ([], ["-v"]):
        arguments = [sys.executable, str(script), *verbose, "attach", INTERFACE, "--netns", lab.server]
        done = subprocess.run(arguments, env=uncached(command, tmp_path), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        lines = done.stderr.strip().splitlines()
        assert "does not compile: bpf/parse/ipv4.h:" in lines[0]
        assert (len(lines) > 1) == bool(verbose)
    assert not command.pins.exists()


def test_a_verifier_refusal_is_explained(lab: Lab, command: Command, tmp_path: Path) -> None:
    script = tmp_path / "unsafe.py"
    script.write_text(
        "import sys\n"
        "from xdpguard.dataplane.build import compiler\n"
        "real = compiler.bundle\n"
        "compiler.bundle = lambda *a: real(*a).replace('(void *)(tcp + 1) > cursor->end || ', '')\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    arguments = [sys.executable, str(script), "-v", "attach", INTERFACE, "--netns", lab.server]
    done = subprocess.run(arguments, env=uncached(command, tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("xdpguard: the kernel rejects the data plane at transport.h:")
    assert "invalid access to packet" in done.stderr
    assert not command.pins.exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(attached: Command, tmp_path: Path, closed: str) -> None:
    """There is nobody to tell, and nothing wrong."""
    path = tmp_path / "a.pcap"
    path.write_bytes(pcap([bytes(60)]))
    attached.ok("lists", "load", "one", "-", stdin="203.0.113.9\n")
    try:
        tell_nobody(attached, path, closed)
    finally:
        attached.ok("lists", "remove", "one")


def tell_nobody(attached: Command, path: Path, closed: str) -> None:
    some = [["rules"], ["events", "--follow", "--for", "1s"], ["tcp", "rtt", "--for", "1s"]]
    others = [["status"], ["stats"], ["guard", "show"], ["lists", "show"], ["replay", str(path)], ["tcp", "states"]]
    for arguments in some if closed == "2>&-" else [*some, *others] if closed == ">&-" else some[:1]:
        line = ["sh", "-c", f'exec "$@" {closed}', "sh", *attached.line(*arguments)]
        done = subprocess.run(line, capture_output=True, env=attached.environment, timeout=60, check=False)
        assert (done.returncode, arguments) == (0, arguments)
        assert b"Traceback" not in done.stdout + done.stderr
        if "--for" not in arguments:
            assert attached.ok(*arguments), "positive control: there is something to tell"
            assert (done.stdout != b"") == (closed == "2>&-"), arguments
