"""Starts and stops the RTSP server of `rtsp_server.py`, and reads the time off its pictures."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.brokers import free_port

SCRIPT = Path(__file__).with_name("rtsp_server.py")
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly}"
BITS = 20


@cache
def _system_python() -> str | None:
    """The distribution's Python, for PyGObject has no wheels; None where it lacks what the server needs."""
    look = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
        "Gst.init(None); assert all(map(Gst.ElementFactory.find, ['appsrc', 'x264enc', 'rtph264pay', 'rtppcmapay']))"
    )
    for python in ("/usr/bin/python3", shutil.which("python3") or "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([python, "-c", look], capture_output=True, timeout=50, check=False).returncode == 0:
                return python
    return None


class RtspServer:
    """One server process, that may die and come back on the same port. `options` are those of its command line."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.options = list(options)
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where the stream is."""
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def start(self) -> None:
        """Starts it and waits until it says that it is ready."""
        python = _system_python()
        if python is None:
            pytest.skip(f"no RTSP server here: apt install {PACKAGES}")
        command = [python, str(SCRIPT), "--port", str(self.port), *self.options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect(f"ready {self.port}\n")

    def tell(self, command: str) -> None:
        """`size 640x480` or `fps 1`, from the next picture on."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._expect("done\n")

    def freeze(self) -> None:
        """Connections stand, nothing comes."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen one go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None

    def _expect(self, line: str) -> None:
        assert self._process
        assert self._process.stdout
        said = self._process.stdout.readline()
        assert said == line, f"the RTSP server said {said!r}"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)


@contextlib.contextmanager
def running_server(*options: str) -> Iterator[RtspServer]:
    """A server that is up, and gone afterwards whatever happened to it."""
    server = RtspServer(*options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def age_ms(image) -> int:
    """How old a picture of the server is; at random, or minutes, where it is not whole."""
    return (int(time.monotonic() * 1000) - stamp_ms(image)) % (1 << BITS)


def stamp_ms(image) -> int:
    """When the server made the picture: the lowest bits of the monotonic clock in milliseconds."""
    height, width = image.shape[:2]
    row = image[height // 4 : 3 * height // 4].mean(axis=(0, 2))
    edges = [width * bit // BITS for bit in range(BITS + 1)]
    bits = [row[edges[k] + 1 : edges[k + 1] - 1].mean() > 128 for k in range(BITS)]
    return sum(bool(on) << (BITS - 1 - k) for k, on in enumerate(bits))
