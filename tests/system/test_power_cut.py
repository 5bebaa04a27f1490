"""A power cut, replayed: what was written and not synced may be on the disk, or not, or half."""

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import REPO

pytestmark = pytest.mark.system
CUTS = 20
SECOND_NS = 1_000_000_000
SECTOR_BYTES = 512
FOLDER = "outbox"

# 1000 results a second, so that the log is emptied into the file several times; each line: a number that `put` took, when
WRITER = """
import json, sys, time
from pathlib import Path
from edge_agent.core.ports import Message
from edge_agent.errors import PublisherLostError
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox

def no_broker():
    raise PublisherLostError("none")

outbox = Outbox(Link("records", no_broker), max_rows=2_500, max_mb=100, drain_per_s=1, folder=Path(sys.argv[1]))
outbox.start()
for number in range(1, 5001):
    payload = {"session": "s", "seq": number, "filler": "x" * 1200}
    outbox.put("result", Message("result/top", json.dumps(payload).encode(), qos=1))
    print(number, time.monotonic_ns(), flush=True)
    time.sleep(0.0008)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What was put and when; every write, truncation, sync and removal: op, time, offset, file name, data; the longest sync."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: apt install gcc")
    folder = tmp_path_factory.mktemp("power")
    library, log, outbox = folder / "write_log.so", folder / "log", folder / FOLDER
    source = Path(__file__).with_name("write_log.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
    names = {"LD_PRELOAD": str(library), "WRITE_LOG": str(log), "WRITE_LOG_FOLDER": str(outbox)}
    words = [sys.executable, "-c", WRITER, str(outbox)]
    done = subprocess.run(words, env=os.environ | names, cwd=REPO, capture_output=True, text=True, check=True)
    puts = [(int(number), int(at)) for number, at in re.findall(r"(?m)^(\d+) (\d+)$", done.stdout)]
    steps = list(read_log(log))
    return puts, [step for step in steps if step[0] != b"B"], longest_sync_ns(steps)


def read_log(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        op, time_ns, offset, size, path_size = struct.unpack_from("<cQqIH", data, at)
        at += 23
        name = Path(data[at : at + path_size].decode()).name
        at += path_size
        yield op, time_ns, offset, name, data[at : at + size]
        at += size


def longest_sync_ns(steps):
    began_ns, longest_ns = {}, 0
    for op, at_ns, _, name, _ in steps:
        if op == b"B":
            began_ns[name] = at_ns
        elif op == b"S":
            longest_ns = max(longest_ns, at_ns - began_ns[name])
    return longest_ns


class Disk:
    """What a disk holds: writes are certain once their file is synced, removals once the folder is."""

    def __init__(self, chance):
        self._chance = chance
        self._files, self._open = {}, {}

    def do(self, op, offset, name, data):
        if op == b"S":
            for args in self._open.pop(name, ()):
                self._apply(*args)
        else:
            self._open.setdefault(FOLDER if op == b"U" else name, []).append((name, op, offset, data))

    def cut(self, folder):
        """Writes the files as they are found afterwards; of what was not synced any part may have arrived."""
        share = self._chance.choice([0, 0.3, 0.7, 1])
        for name, op, offset, data in (args for steps in self._open.values() for args in steps):
            if self._chance.random() < share:
                is_torn = self._chance.random() < 0.2
                kept = self._chance.randrange(0, len(data) + 1, SECTOR_BYTES) if is_torn and data else len(data)
                self._apply(name, op, offset, data[:kept])
        folder.mkdir()
        for name, content in self._files.items():
            (folder / name).write_bytes(content)

    def _apply(self, name, op, offset, data):
        if op == b"U":
            self._files.pop(name, None)
            return
        content = self._files.setdefault(name, bytearray())
        if op == b"T":
            del content[offset:]
        else:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_power_cut_costs_the_last_second_at_most_and_never_the_file(tmp_path, written, seed):
    puts, log, sync_ns = written
    chance = random.Random(seed)
    first = next(index for index, (_, at_ns, _, _, _) in enumerate(log) if at_ns > puts[0][1])
    cut = chance.randrange(first + 1, len(log))
    disk = Disk(chance)
    for op, _, offset, name, data in log[:cut]:
        disk.do(op, offset, name, data)
    disk.cut(tmp_path / "found")
    cut_ns = log[cut - 1][1]
    with contextlib.closing(sqlite3.connect(tmp_path / "found" / "outbox.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = [
            json.loads(payload)["seq"] for (payload,) in database.execute("SELECT payload FROM result ORDER BY number")
        ]
    certain = max((number for number, put_ns in puts if put_ns < cut_ns - SECOND_NS - sync_ns), default=0)
    assert kept == list(range(kept[0], kept[-1] + 1)) if kept else certain == 0
    assert not kept or kept[-1] >= certain


def test_the_log_was_emptied_into_the_file_meanwhile(written):
    _, log, _ = written
    assert sum(op == b"T" and name == "outbox.db-wal" and offset == 0 for op, _, offset, name, _ in log) >= 2
