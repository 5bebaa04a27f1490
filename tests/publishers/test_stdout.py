"""`stdout`, on a real process with a real pipe."""

import fcntl
import json
import os
import pty
import subprocess
import sys

import pytest
from pydantic import ValidationError

from edge_agent.publishers import stdout
from tests.fixtures import REPO

PROGRAM = """
import sys
from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError
from edge_agent.publishers import stdout
publisher = stdout.create(stdout.Config(), "x", Message("state", b"{}"))
publisher.send(Message("a/b", b'{\\n "word": "Gru\\xc3\\x9f"\\n}', qos=1, retain=True, expiry_s=3))
sys.stdin.readline()
"""


def start(program: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, cwd=REPO)


def test_a_message_is_one_line_of_json_that_comes_at_once():
    with start(PROGRAM) as process:
        line = process.stdout.readline()
        assert process.poll() is None
        process.communicate(b"\n")
    assert json.loads(line) == {"topic": "a/b", "qos": 1, "retain": True, "payload": {"word": "Gruß"}}


def test_a_pipe_that_nobody_reads_is_a_lost_connection():
    program = (
        PROGRAM
        + """
for attempt in (
    lambda: publisher.send(Message("a", b"{}")),
    lambda: publisher.poll(1),
    lambda: stdout.create(stdout.Config(), "x"),
):
    try:
        attempt()
    except PublisherLostError as err:
        print(err, file=sys.stderr)
"""
    )
    with start(program) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        errors = process.stderr.read().decode().splitlines()
        assert process.wait(20) == 0
    assert errors == ["standard output: Broken pipe"] * 2 + ["standard output: nobody reads it any more"]


def test_a_poll_notices_that_the_reader_has_gone():
    program = (
        PROGRAM
        + """
try:
    while True:
        publisher.poll(0.05)
except PublisherLostError as err:
    print(err, file=sys.stderr)
"""
    )
    with start(program) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        assert "nobody reads it any more" in process.stderr.read().decode()


FLOOD = """
import os, sys
from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError
from edge_agent.publishers import stdout
blocking = os.get_blocking(1)
publisher = stdout.create(stdout.Config(), "x")
padding = b'"' + b"x" * 9000 + b'"'
try:
    while True:
        publisher.send(Message("flood", padding))
except PublisherLostError as err:
    print(err, os.get_blocking(1) == blocking, file=sys.stderr, flush=True)
"""


def test_a_reader_that_stops_reading_is_a_lost_connection_after_a_second():
    with start(FLOOD) as process:
        assert "whoever reads it has stopped" in process.stderr.readline().decode()
        assert process.wait(20) == 0


def test_a_terminal_that_has_stopped_is_a_lost_connection_and_keeps_its_flags():
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", FLOOD], stdout=theirs, stderr=subprocess.PIPE, cwd=REPO) as process:
        assert process.stderr.readline().decode().endswith("has stopped, or is too slow True\n")
    os.close(ours)
    os.close(theirs)


def test_a_pipe_that_is_full_at_the_start_is_no_connection():
    program = (
        FLOOD
        + """
try:
    stdout.create(stdout.Config(), "x")
except PublisherLostError:
    print("refused", file=sys.stderr)
"""
    )
    with start(program) as process:
        assert process.stderr.read().decode().splitlines()[1:] == ["refused"]


def test_a_line_that_was_left_half_written_is_finished_before_the_next():
    program = (
        FLOOD
        + """
publisher.close(abort=True)
sys.stdin.readline()
stdout.create(stdout.Config(), "x").send(Message("after", b"{}"))
"""
    )
    with start(program) as process:
        process.stderr.readline()
        lines = process.communicate(b"\n", timeout=20)[0].splitlines()
    assert [json.loads(line)["topic"] for line in lines] == ["flood"] * (len(lines) - 1) + ["after"]


def test_lines_of_two_publishers_stay_whole_when_the_reader_is_slow():
    program = """
import sys, threading
from edge_agent.core.ports import Message
from edge_agent.publishers import stdout
publishers = [stdout.create(stdout.Config(), "x") for _ in range(2)]
padding = b'"' + b"x" * 9000 + b'"'
def talk(publisher):
    for _ in range(20):
        publisher.send(Message("a", padding))
threads = [threading.Thread(target=talk, args=(publisher,)) for publisher in publishers * 2]
for thread in threads:
    thread.start()
"""
    lines = b""
    with start(program) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        while piece := os.read(process.stdout.fileno(), 500):
            lines += piece
        assert process.stderr.read() == b""
    assert [json.loads(line)["topic"] for line in lines.splitlines()] == ["a"] * 80


@pytest.mark.parametrize("prefix", ["", "a//b", "/a", "a/", "a+", "#", "$SYS", "a\0b"])
def test_a_prefix_that_is_no_topic_is_refused(prefix):
    with pytest.raises(ValidationError, match="must be topic levels"):
        stdout.Config(prefix=prefix)
