"""An hour without a broker, with the time compressed: what the outbox kept, and how it drained."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.brokers import HOST, free_port, running_broker
from tests.fixtures import REPO
from tests.processes import ended

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
RESULTS = 3600 * 20

OUTBOX = """
import json, sys, time
from functools import partial
from pathlib import Path
from edge_agent.core.ports import Message
from edge_agent.publishers import mqtt
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox, outbox as module

folder, port, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
link = Link("records", partial(mqtt.create, mqtt.Config(host="127.0.0.1", port=port), "ea-hour-records"))
limits = {"max_rows": 100_000, "max_mb": 200, "drain_per_s": module.FULL_RATE_PER_S}
outbox = Outbox(link, **limits, folder=folder)
outbox.start()
link.start()
for number in range(1, count + 1):
    payload = {"session": "s", "seq": number, "filler": "x" * 700}
    outbox.put("result", Message("result/top", json.dumps(payload).encode(), qos=1))
    while outbox._stock.unwritten() > 2000:  # an hour's disk has an hour's time
        time.sleep(0.01)
print("kept", outbox.waiting(), file=sys.stderr, flush=True)
sys.stdin.readline()
link.hurry()
while outbox.waiting():
    time.sleep(0.02)
print("left", outbox.waiting(), outbox.stop(1), outbox.counts["delivered"], file=sys.stderr, flush=True)
link.stop(2)
"""


class Subscriber:
    """Gets all messages with QoS 0 and keeps their bytes: nothing that costs time while the outbox drains."""

    def __init__(self, port):
        self.stream = bytearray()
        self._socket = socket.create_connection((HOST, port))
        self._socket.sendall(b"\x10\x0f\0\4MQTT\5\2\0\0\0\0\2me")  # CONNECT (MQTT 5, 3.1): a clean start, no keepalive
        self._socket.sendall(b"\x82\x07\0\1\0\0\1#\0")  # SUBSCRIBE to all
        while b"\x90\x04\0\1\0\0" not in self.stream:  # SUBACK
            self.stream += self._socket.recv(1000)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def seqs(self):
        return [int(seq) for seq in re.findall(rb'"seq": (\d+),', self.stream)]

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self):
        while data := self._socket.recv(1 << 20):
            self.stream += data


@pytest.fixture
def outbox(tmp_path):
    """One that has put an hour's results without a broker, and its port."""
    port = free_port()
    words = [sys.executable, "-c", OUTBOX, tmp_path / "outbox", str(port), str(RESULTS)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(words, cwd=REPO, **pipes) as process:
        try:
            assert process.stderr.readline().split() == [b"kept", str(RESULTS).encode()]
            yield process, port
        finally:
            process.kill()


def test_an_hour_without_a_broker_loses_nothing_and_drains_in_order(tmp_path, outbox):
    process, port = outbox
    with running_broker(tmp_path, "log_type error\n", port=port), contextlib.closing(Subscriber(port)) as subscriber:
        began_s = time.monotonic()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        said, took_s = process.stderr.readline().split(), time.monotonic() - began_s
        print(f"drained {RESULTS / took_s:,.0f} a second")  # noqa: T201 - a number for whoever asks with -s
        assert ended(lambda: f'"seq": {RESULTS},'.encode() in subscriber.stream[-3000:])
    assert said == [b"left", b"0", b"0", str(RESULTS).encode()]
    assert subscriber.seqs() == list(range(1, RESULTS + 1))
