"""Lines on standard output, of a real process whose reader is slow, or stops."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec
from tests.fixtures import REPO
from tests.processes import STOP_S
from tests.system.agents import config_text, replay

pytestmark = pytest.mark.system
METADATA = {"task": "detect", "stride": 32, "names": {"0": "part"}, "end2end": True}
MANY = 100


@contextmanager
def running(folder) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that finds `MANY` parts, 9 KB of them, in 20 frames a second, and a pipe of 4 KiB that it writes to."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, :MANY] = [(0.4, 0.4, 0.6, 0.6, 0.9 - k / 1000, 0) for k in range(MANY)]
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    recorded.save(folder / "many.npz", [image], [[found]], METADATA)
    config = config_text(model=folder / "many.npz", cameras=replay(REPO / "examples" / "photos", fps=20), port=1)
    (folder / "agent.toml").write_text(config.partition("[mqtt]")[0] + "[stdout]\n")
    words = [sys.executable, "-m", "edge_agent", "run", "--config", str(folder / "agent.toml")]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, cwd=REPO) as process:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        try:
            yield process
        finally:
            process.kill()


def test_an_agent_whose_reader_stops_says_so_and_obeys_sigterm(tmp_path):
    with running(tmp_path) as process:
        for line in process.stderr:
            if b"whoever reads it has stopped" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_S) == 0


def test_every_line_is_whole_when_the_reader_is_slow(tmp_path):
    read = b""
    with running(tmp_path) as process:
        while read.count(b"\n") < 60 or len(max(read.splitlines(), key=len)) < 8000:
            read += os.read(process.stdout.fileno(), 1000)
            time.sleep(0.005)  # being slow is what is tested
    topics = [json.loads(line)["topic"] for line in read.splitlines()[:-1]]
    assert any("/verdict/" in topic for topic in topics)
    assert any("/result/" in topic for topic in topics)
