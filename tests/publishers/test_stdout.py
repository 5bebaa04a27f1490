"""`stdout`, on a real process with a real pipe."""

import json
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


@pytest.mark.parametrize("prefix", ["", "a//b", "/a", "a/", "a+", "#", "$SYS", "a\0b"])
def test_a_prefix_that_is_no_topic_is_refused(prefix):
    with pytest.raises(ValidationError, match="must be topic levels"):
        stdout.Config(prefix=prefix)
