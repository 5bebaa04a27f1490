"""What systemd is told, heard on a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.runtime.systemd import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


@pytest.fixture
def notifier(systemd: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": systemd.getsockname()})


def test_ready_says_so(notifier, systemd):
    notifier.ready()
    assert systemd.recv(4096) == b"READY=1"


def test_stopping_says_so(notifier, systemd):
    notifier.stopping()
    assert systemd.recv(4096) == b"STOPPING=1"


def test_the_watchdog_is_fed(notifier, systemd):
    notifier.watchdog()
    assert systemd.recv(4096) == b"WATCHDOG=1"


def test_a_status_is_one_line(notifier, systemd):
    notifier.status("running; 12.9 fps\nREADY=0")
    assert systemd.recv(4096) == b"STATUS=running; 12.9 fps READY=0"


def test_a_status_may_hold_any_language(notifier, systemd):
    notifier.status("cámara perdida")
    assert systemd.recv(4096).decode() == "STATUS=cámara perdida"


def test_reloading_carries_the_monotonic_time_in_the_same_message(notifier, systemd):
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = systemd.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, usec = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(usec) <= time.monotonic_ns() // 1000


def test_more_time_is_asked_for_in_microseconds(notifier, systemd):
    notifier.extend_timeout(90.5)
    assert systemd.recv(4096) == b"EXTEND_TIMEOUT_USEC=90500000"


def test_an_abstract_socket_is_reached():
    name = f"edge-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert listener.recv(4096) == b"READY=1"


def test_without_systemd_nothing_happens():
    notifier = Notifier({})
    notifier.ready()
    notifier.watchdog()
    assert notifier.watchdog_interval_s is None


def test_a_socket_that_is_gone_raises_nothing(tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_the_watchdog_is_due_twice_as_often_as_systemd_waits():
    environ = {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(environ).watchdog_interval_s == 5.0


def test_the_watchdog_without_a_pid_is_ours():
    assert Notifier({"WATCHDOG_USEC": "10000000"}).watchdog_interval_s == 5.0


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
    ],
)
def test_the_watchdog_of_another_process_or_none_is_not_ours(environ):
    assert Notifier(environ).watchdog_interval_s is None
