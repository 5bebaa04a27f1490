"""The status socket, asked over the real thing."""

import os
import socket
import stat
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
from structlog.testing import capture_logs

from edge_agent.runtime.status_socket import FILE, StatusServer, ask
from tests.runtime.stations import wait_for

DOCUMENT = b'{"state":"running"}\n'


@contextmanager
def serving(folder, document=DOCUMENT):
    server = StatusServer(folder, lambda: document)
    server.start()
    try:
        wait_for(lambda: server._listener is not None)
        yield server
    finally:
        server.stop(5)


def connect(folder):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(5)
    while True:
        try:
            client.connect(str(folder / FILE))
        except BlockingIOError:  # as many wait as may
            time.sleep(0.01)
        else:
            return client


def test_who_connects_gets_one_document(tmp_path):
    with serving(tmp_path):
        assert ask(tmp_path) == ask(tmp_path) == DOCUMENT


def test_the_socket_is_for_its_owner_and_group(tmp_path):
    with serving(tmp_path):
        mode = (tmp_path / FILE).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_a_stop_takes_the_socket_away(tmp_path):
    with serving(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        ask(tmp_path)


def test_the_folder_may_be_deeper_than_an_address_holds(tmp_path):
    folder = tmp_path.joinpath(*["a" * 100] * 3)
    with serving(folder):
        assert ask(folder) == DOCUMENT
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_clients_that_read_nothing_hold_nobody_up(tmp_path):
    with ExitStack() as hanging, serving(tmp_path, b"x" * 100_000):
        for _ in range(40):
            hanging.enter_context(connect(tmp_path))
        assert len(ask(tmp_path)) == 100_000


def test_clients_that_leave_at_once_harm_nothing(tmp_path):
    with serving(tmp_path):
        for _ in range(20):
            connect(tmp_path).close()
        assert ask(tmp_path) == DOCUMENT


def test_many_at_a_time_are_answered_one_after_the_other(tmp_path):
    answers = []
    with serving(tmp_path):
        threads = [threading.Thread(target=lambda: answers.append(ask(tmp_path, 10))) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [DOCUMENT] * 30


def test_the_socket_of_a_process_that_was_killed_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / FILE))
    with pytest.raises(ConnectionRefusedError):
        ask(tmp_path)
    with serving(tmp_path):
        assert ask(tmp_path) == DOCUMENT


def test_the_socket_of_a_process_that_answers_is_left_alone(tmp_path):
    with serving(tmp_path), capture_logs() as logs:
        second = StatusServer(tmp_path, lambda: b"another")
        second.start()
        wait_for(lambda: logs)
        second.stop(5)
        assert ask(tmp_path) == DOCUMENT
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("status_socket_failed", "another agent answers there")
    ]


def test_the_socket_of_a_process_that_hangs_is_left_alone_too(tmp_path):
    with ExitStack() as stack, capture_logs() as logs:
        hanging = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        hanging.bind(str(tmp_path / FILE))
        hanging.listen(0)
        stack.enter_context(connect(tmp_path))
        with pytest.raises(TimeoutError):
            ask(tmp_path, 0.1)
        second = StatusServer(tmp_path, lambda: DOCUMENT)
        second.start()
        wait_for(lambda: logs)
        second.stop(5)
    assert logs[0]["reason"] == "another agent answers there"


def test_a_folder_that_cannot_be_used_is_told_once(tmp_path):
    (tmp_path / "file").write_text("")
    server = StatusServer(tmp_path / "file" / "folder", lambda: DOCUMENT)
    with capture_logs() as logs:
        server.start()
        wait_for(lambda: logs)
        server.stop(5)
    assert [(line["event"], line["reason"]) for line in logs] == [("status_socket_failed", os.strerror(20))]


def test_a_socket_that_somebody_deleted_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.runtime.status_socket.LOOK_EVERY_S", 0.02)
    with serving(tmp_path):
        (tmp_path / FILE).unlink()
        wait_for((tmp_path / FILE).exists)
        assert ask(tmp_path) == DOCUMENT


def test_a_document_that_cannot_be_made_costs_that_answer_only(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.runtime.status_socket.TRY_EVERY_S", 0.02)
    documents = iter([ValueError("no")])

    def document():
        for error in documents:
            raise error
        return DOCUMENT

    def is_answered():
        with suppress(OSError):
            return ask(tmp_path) == DOCUMENT
        return False

    server = StatusServer(tmp_path, document)
    with capture_logs() as logs:
        server.start()
        wait_for(is_answered)
        server.stop(5)
    assert [line["reason"] for line in logs] == ["no"]
