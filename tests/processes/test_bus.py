"""The D-Bus wire: our client against a bus of its own (``dbus-daemon``, written by others), and against a peer that
misbehaves. What systemd answers is tested where there is one: ``test_delegation.py``."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import oomless
from helpers import SLOWNESS
from oomless.contain.rungs import dbus, systemd_manager
from oomless.contain.rungs.dbus import Bus, BusRefused

pytestmark = pytest.mark.as_user

DBUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
CONFIG = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


@pytest.fixture
def address(house: Path) -> Iterator[str]:
    """A bus that only this test knows."""
    program = shutil.which("dbus-daemon")
    if program is None:
        pytest.skip("there is no dbus-daemon")
    config, path = house / "bus.conf", house / "bus"
    config.write_text(CONFIG.format(path=path))
    arguments = [program, f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline().startswith("unix:")
        yield str(path)
        daemon.terminate()


@pytest.fixture
def ours(address: str) -> Iterator[Bus]:
    connection = Bus(address, 10 * SLOWNESS)
    yield connection
    connection.close()


def test_a_real_bus_lets_us_in_and_names_us(ours: Bus) -> None:
    (name,) = ours.call(*DBUS, "Hello")
    assert name.startswith(":1.")
    assert ours.call(*DBUS, "GetNameOwner", "s", name) == [name]
    assert ours.call(*DBUS, "GetConnectionUnixProcessID", "s", name) == [os.getpid()]
    (names,) = ours.call(*DBUS, "ListNames")
    assert {name, DBUS[0]} <= set(names)


def test_a_refusal_has_its_name_and_text(ours: Bus) -> None:
    ours.call(*DBUS, "Hello")
    with pytest.raises(BusRefused) as refused:
        ours.call(*DBUS, "GetNameOwner", "s", "no.such.name")
    assert refused.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
    assert "no.such.name" in (refused.value.strerror or "")
    assert ours.call(*DBUS, "NameHasOwner", "s", "no.such.name") == [0]  # and the connection goes on


def test_a_signal_that_came_before_the_answer_is_kept(ours: Bus) -> None:
    (name,) = ours.call(*DBUS, "Hello")
    ours.call(*DBUS, "AddMatch", "s", "type='signal',member='NameOwnerChanged'")
    assert ours.call(*DBUS, "RequestName", "su", "a.name", 0) == [1]
    assert ours.call(*DBUS, "ReleaseName", "s", "a.name") == [1]
    assert ours.signal("NameOwnerChanged", lambda values: values[0] == "a.name") == ["a.name", "", name]
    assert ours.signal("NameOwnerChanged", lambda values: values[0] == "a.name") == ["a.name", name, ""]


def test_nested_values_arrive_at_another_implementation(address: str, tmp_path: Path) -> None:
    """``dbus-monitor`` prints what we sent: every type that systemd is told in."""
    program = shutil.which("dbus-monitor")
    if program is None:
        pytest.skip("there is no dbus-monitor")
    arguments = [program, "--address", f"unix:path={address}", "interface='try.it'"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        line = other.stdout.readline()
        while "NameLost" not in line:  # from here on it listens
            line = other.stdout.readline()
        ours = Bus(address, 10 * SLOWNESS)
        ours.call(*DBUS, "Hello")
        properties = [("PIDs", ("au", [7, 8])), ("Delegate", ("b", True)), ("TasksMax", ("t", 2**64 - 1))]
        with pytest.raises(BusRefused):
            ours.call("no.one", "/it", "try.it", "Start", "ssa(sv)a(sa(sv))", "unit", "fail", properties, [])
        ours.close()
        seen: list[str] = []
        while seen.count("   array [") < 2 or seen[-1] != "   ]":
            seen.append(other.stdout.readline().rstrip("\n"))
        other.terminate()
    text = " ".join(" ".join(seen).split())
    assert 'string "unit" string "fail" array [ struct { string "PIDs" variant array [ uint32 7 uint32 8 ] }' in text
    assert 'struct { string "Delegate" variant boolean true }' in text
    assert 'struct { string "TasksMax" variant uint64 18446744073709551615 }' in text


def test_what_is_put_is_read_again() -> None:
    signature = "ysgoa(sv)at(ub)"
    values = [7, "ä", "a{sv}", "/a", [("x", ("u", 5)), ("y", ("as", ["p", ""]))], [2**63], (1, 0)]
    data = dbus.encode(dbus.SIGNAL, 3, {dbus.MEMBER: ("s", "M")}, signature, values)
    found = dbus.decode(data + b"more")
    assert found is not None
    message, length = found
    assert (message.kind, message.fields[dbus.MEMBER], length) == (dbus.SIGNAL, "M", len(data))
    assert message.values() == [7, "ä", "a{sv}", "/a", [("x", 5), ("y", ["p", ""])], [2**63], (1, 0)]
    assert all(dbus.decode(data[:cut]) is None for cut in range(len(data)))


@pytest.mark.parametrize("data", [b"\0" * 16, b"l\1\0\2" + bytes(12), b"l\1\0\1\xff\xff\xff\xff" + bytes(8)])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(OSError, match="D-Bus") as raised:
        dbus.decode(data)
    assert raised.value.errno == errno.EPROTO


# -- a peer that misbehaves --------------------------------------------------------------------------------


def peer(path: Path, talk: Callable[[socket.socket], object]) -> threading.Thread:
    """Accepts one connection and talks."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        with listening, listening.accept()[0] as connection:
            connection.settimeout(10 * SLOWNESS)  # a test that fails must not keep us
            talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_peer_that_says_nothing_costs_the_time_that_was_given(house: Path) -> None:
    thread = peer(house / "silent", lambda connection: connection.recv(1000) and connection.recv(1000))
    with pytest.raises(TimeoutError):
        Bus(str(house / "silent"), 0.2)
    thread.join(10)


def test_a_peer_that_does_not_know_us_is_an_error(house: Path) -> None:
    def reject(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"REJECTED EXTERNAL\r\n")

    thread = peer(house / "rejects", reject)
    with pytest.raises(OSError, match="does not let us in: REJECTED"):
        Bus(str(house / "rejects"), 10)
    thread.join(10)


def test_a_peer_that_hangs_up_is_an_error(house: Path) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"OK 0123\r\n")
        connection.recv(1000)

    thread = peer(house / "hangs-up", hang_up)
    with pytest.raises(ConnectionResetError):
        systemd_manager.SystemdManager(str(house / "hangs-up"), False, 10).group_of("x.scope")
    thread.join(10)


def test_the_manager_is_looked_for_in_the_folder_that_is_named(house: Path) -> None:
    run = house / "run"
    (run / "systemd").mkdir()
    for name in ("systemd/private", "bus"):
        (run / name).touch()
    found = [place for place in systemd_manager.sockets() if place[0].startswith(str(run))]
    assert found == [(f"{run}/systemd/private", False), (f"{run}/bus", True)]


def test_the_client_loads_little() -> None:
    """It is loaded by a forked child of the shim: no ``socket``, ``ctypes`` or ``enum``."""
    code = "import sys; import oomless.contain.rungs.systemd_manager; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(Path(oomless.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"socket", "selectors", "ctypes", "enum", "re", "subprocess"} & set(done.stdout.split())


def receive(connection: socket.socket) -> dbus.Message:
    data = b""
    while True:
        data += connection.recv(4096)
        found = dbus.decode(data)
        if found:
            assert len(data) == found[1]
            return found[0]


def test_the_whole_authentication_is_sent_at_once(house: Path) -> None:
    """A server that reads the end of it together with a call may not see the call (``Bus._authenticate``)."""
    seen: list[bytes] = []

    def read(connection: socket.socket) -> None:
        seen.append(connection.recv(1000))
        connection.sendall(b"OK 0123\r\n")
        receive(connection)

    thread = peer(house / "reads", read)
    with pytest.raises(ConnectionResetError):
        systemd_manager.SystemdManager(str(house / "reads"), False, 10).group_of("x.scope")
    thread.join(10)
    uid = str(os.geteuid()).encode().hex().encode()
    assert seen == [b"\0AUTH EXTERNAL " + uid + b"\r\nBEGIN\r\n"]


def test_a_manager_that_knows_no_oom_policy_of_scopes_is_asked_without(house: Path) -> None:
    """The second time; and the job's end is waited for, by name, though it is told before the answer."""
    asked: list[dict[str, object]] = []

    def manage(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"OK 0123\r\n")
        for serial in (1, 2):
            message = receive(connection)
            unit, mode, properties, others = message.values()
            assert (message.fields[dbus.MEMBER], unit, mode, others) == ("StartTransientUnit", "a.scope", "fail", [])
            asked.append(dict(properties))
            reply: dict[int, tuple[str, object]] = {dbus.REPLY_SERIAL: ("u", serial)}
            if "OOMPolicy" in asked[-1]:
                reply[dbus.ERROR_NAME] = ("s", "org.freedesktop.DBus.Error.PropertyReadOnly")
                text = ["Cannot set property OOMPolicy, or unknown property."]
                connection.sendall(dbus.encode(dbus.ERROR, serial, reply, "s", text))
                continue
            for job in ("/other", "/job"):
                fields = {dbus.MEMBER: ("s", "JobRemoved")}
                values = (7, job, "a.scope", "done" if job == "/job" else "failed")
                connection.sendall(dbus.encode(dbus.SIGNAL, 9, fields, "uoss", values))
            connection.sendall(dbus.encode(dbus.RETURN, 10, reply, "o", ["/job"]))
        connection.recv(1)

    thread = peer(house / "manages", manage)
    ours = systemd_manager.SystemdManager(str(house / "manages"), False, 10)
    ours.start_scope("a.scope", 77, "what")
    ours.close()
    thread.join(10)
    assert [one.get("OOMPolicy") for one in asked] == ["continue", None]
    assert all((one["PIDs"], one["Delegate"], one["TasksMax"]) == ([77], 1, 2**64 - 1) for one in asked)


def test_a_scope_that_was_not_started_is_an_error(house: Path) -> None:
    def fail(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"OK 0123\r\n")
        receive(connection)
        connection.sendall(dbus.encode(dbus.RETURN, 1, {dbus.REPLY_SERIAL: ("u", 1)}, "o", ["/job"]))
        fields = {dbus.MEMBER: ("s", "JobRemoved")}
        connection.sendall(dbus.encode(dbus.SIGNAL, 2, fields, "uoss", (7, "/job", "a.scope", "timeout")))
        connection.recv(1)

    thread = peer(house / "fails", fail)
    ours = systemd_manager.SystemdManager(str(house / "fails"), False, 10)
    with pytest.raises(OSError, match=r"did not start a\.scope: timeout"):
        ours.start_scope("a.scope", 77, "what")
    ours.close()
    thread.join(10)
