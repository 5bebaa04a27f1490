"""GPIO chips with inputs: one for the stand-in of the library, and the kernel's own simulated one."""

import importlib
import os
import sys
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

FAKE_GPIOD = Path(__file__).parent / "fake_gpiod"
"""On the `PYTHONPATH` of a process it is the library there."""

LINES = 32
CONFIGFS = Path("/sys/kernel/config/gpio-sim")


@contextmanager
def placed(folder):
    """The package `gpiod` in the folder is what would be imported; afterwards it is as if it never had been."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "gpiod"}
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpiod"]:
            del sys.modules[name]
        sys.modules.update(hidden)


@contextmanager
def standing_in():
    """The stand-in, fresh, as `gpiod`."""
    with placed(FAKE_GPIOD):
        yield importlib.import_module("gpiod")


def _record():
    with standing_in():
        return importlib.import_module("gpiod.inputs").RECORD


RECORD = _record()


class Chip:
    """A chip of the stand-in, whose lines the test moves; whoever asks for lines may be another process.

    `path` is what goes into the configuration.
    """

    def __init__(self, folder):
        self.path = Path(folder) / "gpiochip0"
        self._unkept = Counter()
        self.plug_in()

    def plug_in(self):
        """The chip is there, with nothing on its lines."""
        self.path.mkdir()
        for line in range(LINES):
            os.mkfifo(self.path / str(line))

    def unplug(self):
        """The chip goes, also for those who read from it."""
        gone = self.path.with_name(f"gone-{uuid.uuid4().hex}")
        self.path.rename(gone)
        for line in range(LINES):
            self._write(gone, line, b"x", 0)

    def deny(self):
        """Nobody may open it any more."""
        (self.path / "denied").touch()

    def is_open(self, line):
        """Whether somebody reads edges of this line."""
        try:
            os.close(os.open(self.path / str(line), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def pulse(self, line, at_ns=None):
        """The line goes up, and down again. When it went up; None: nobody was there to see it."""
        at_ns = at_ns or time.monotonic_ns()
        seen = self._write(self.path, line, b"r", at_ns)
        return at_ns if self._write(self.path, line, b"f", at_ns + 1000) and seen else None

    def forget(self, line, count=1):
        """So many edges come that the kernel cannot keep: the next one shows it by its number."""
        for kind in (b"r", b"f"):
            self._unkept[line, kind] += count

    def _write(self, path, line, kind, at_ns):
        try:
            pipe = os.open(path / str(line), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        unkept = self._unkept.pop((line, kind), 0)
        try:
            os.write(pipe, RECORD.pack(kind, at_ns, unkept))
        except BlockingIOError:  # more than even this pipe holds
            self._unkept[line, kind] = unkept + 1
        finally:
            os.close(pipe)
        return True


class SimulatedChip:
    """A chip of the kernel's module gpio-sim: its device file, and the folder with what its lines are."""

    def __init__(self, device, lines):
        self.device, self._lines = device, lines

    def is_high(self, line):
        return (self._lines / f"sim_gpio{line}" / "value").read_text().strip() == "1"

    def pull(self, line, *, up):
        (self._lines / f"sim_gpio{line}" / "pull").write_text("pull-up" if up else "pull-down")

    def pulse(self, line):
        """Up and down. When it was up, at the earliest and the latest (monotonic)."""
        before_ns = time.monotonic_ns()
        self.pull(line, up=True)
        after_ns = time.monotonic_ns()
        self.pull(line, up=False)
        return before_ns, after_ns


@contextmanager
def simulated_chip(line_names=()):
    """A chip of four lines, some with names, or a skip: the library, the module and root are needed."""
    pytest.importorskip("gpiod", reason="needs the package gpiod: pip install 'gpiod>=2.1'")
    if not CONFIGFS.is_dir() or os.geteuid() != 0:
        pytest.skip("needs root and the kernel module gpio-sim: modprobe gpio-sim")
    chip = CONFIGFS / f"edge-agent-{uuid.uuid4().hex[:8]}"
    bank = chip / "bank"
    bank.mkdir(parents=True)
    named = [bank / f"line{line}" for line in range(len(line_names))]
    try:
        (bank / "num_lines").write_text("4")
        for folder, name in zip(named, line_names, strict=True):
            folder.mkdir()
            (folder / "name").write_text(name)
        (chip / "live").write_text("1")
        name = (bank / "chip_name").read_text().strip()
        device = (chip / "dev_name").read_text().strip()
        yield SimulatedChip(Path("/dev", name), Path("/sys/devices/platform", device, name))
    finally:
        (chip / "live").write_text("0")
        for folder in (*named, bank, chip):
            folder.rmdir()
