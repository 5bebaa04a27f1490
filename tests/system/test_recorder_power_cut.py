"""A power cut, replayed for the flight recorder: what was written and not synced may be on the disk, or not, or half."""

import os
import random
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.fixtures import REPO
from tests.runtime.flights import records_in
from tests.system.test_power_cut import SECOND_NS, SECTOR_BYTES, longest_sync_ns, read_log

pytestmark = pytest.mark.system
CUTS = 20
FILE = "flight.log"
WRITTEN_NS = 600_000_000  # until the thread has written what was noted, on a machine that is busy

# 400 notes a second of half a kilobyte: the ring of 0.75 MB goes round once; each line: a number that `note` took, and when
WRITER = """
import sys, time
from pathlib import Path
from edge_agent.runtime.recorder import Recorder

recorder = Recorder(Path(sys.argv[1]), 1, "5f0c9a1b")
recorder.start()
for number in range(1, 2001):
    recorder.note("receipt", {"number": number, "filler": "x" * 500})
    print(number, time.monotonic_ns(), flush=True)
    time.sleep(0.0022)
recorder.stop(10)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What was noted and when; every write and sync of the file: op, time, offset, data; the longest sync."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: apt install gcc")
    folder = tmp_path_factory.mktemp("power")
    library, log, own = folder / "write_log.so", folder / "log", folder / "own"
    source = Path(__file__).with_name("write_log.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True)
    names = {"LD_PRELOAD": str(library), "WRITE_LOG": str(log), "WRITE_LOG_FOLDER": str(own)}
    words = [sys.executable, "-c", WRITER, str(own)]
    done = subprocess.run(words, env=os.environ | names, cwd=REPO, capture_output=True, text=True, check=True)
    notes = [(int(number), int(at)) for number, at in re.findall(r"(?m)^(\d+) (\d+)$", done.stdout)]
    log = [step for step in read_log(log) if step[3].startswith(FILE)]
    return notes, log, longest_sync_ns(log), (own / FILE).stat().st_size


def cut_content(log, size, chance):
    """The file as it is found afterwards: what a sync began after is certain, of the rest any part may have arrived."""
    content, certain, open_ = bytearray(size), [], []
    for op, _, offset, _, data in log:
        if op == b"W":
            open_.append((offset, data))
        elif op == b"B":
            certain, open_ = [*certain, *open_], []
        elif op == b"S":
            for at, synced in certain:
                content[at : at + len(synced)] = synced
            certain = []
    share = chance.choice([0, 0.3, 0.7, 1])
    for offset, data in [*certain, *open_]:
        for at in range(0, len(data), SECTOR_BYTES):
            if chance.random() < share:
                sector = data[at : at + SECTOR_BYTES]
                content[offset + at : offset + at + len(sector)] = sector
    return content


@pytest.mark.parametrize("seed", range(CUTS))
def test_a_power_cut_costs_the_last_moments_at_most_and_never_the_file(tmp_path, written, seed):
    notes, log, sync_ns, size = written
    chance = random.Random(seed)
    first = next(index for index, (op, at_ns, *_) in enumerate(log) if op == b"S" and at_ns > notes[0][1])
    cut = chance.randrange(first + 1, len(log))
    (tmp_path / FILE).write_bytes(cut_content(log[:cut], size, chance))
    numbers = [record.body["number"] for record in records_in(tmp_path)]
    cut_ns = log[cut - 1][1]
    certain = max(
        (number for number, at_ns in notes if at_ns < cut_ns - SECOND_NS - WRITTEN_NS - 2 * sync_ns), default=0
    )
    fit = 0.7 * size / 560  # records in the ring of verdicts, less those that the last seconds have written over
    assert set(numbers) >= set(range(max(1, int(certain - fit / 4)), certain + 1))


def test_the_ring_went_round_meanwhile(written):
    _, log, _, _ = written
    offsets = [offset for op, _, offset, _, _ in log if op == b"W"]
    assert any(later < sooner for sooner, later in pairwise(offsets[1:]))
