"""Writes real pictures and videos, and serves a real network stream, for the tests of whatever reads a camera."""

import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48


def picture(shade):
    """A picture whose shade tells it from the others, in steps that survive JPEG."""
    return np.full((HEIGHT, WIDTH, 3), (shade, 255 - shade, 100), np.uint8)


def write_pictures(folder: Path, count: int, suffix: str = ".png") -> Path:
    """`0.png`, `1.png`, ... with shades 0, 10, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        assert cv2.imwrite(str(folder / f"{k}{suffix}"), picture(10 * k))
    return folder


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces a picture of that size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def write_video(path: Path, count: int, *, times: int = 1) -> Path:
    """MJPG in AVI, `times` as wide and high as a picture: every OpenCV wheel writes and reads it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (times * WIDTH, times * HEIGHT))
    assert writer.isOpened()
    for k in range(count):
        writer.write(np.tile(picture(10 * k), (times, times, 1)))
    writer.release()
    return path


@contextmanager
def served(frames: int, jpegs: Sequence[bytes] = ()) -> Iterator[str]:
    """The URL of an MJPEG stream over HTTP: `frames` pictures, and then silence, or with `?end` the end.

    They are `jpegs`, or else pictures of their own.
    """
    over = threading.Event()

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
            self.end_headers()
            for k in range(frames):
                jpeg = jpegs[k] if jpegs else cv2.imencode(".jpg", picture(10 * k))[1].tobytes()
                head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            self.wfile.flush()
            if not self.path.endswith("?end"):
                over.wait(60)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    server.handle_error = lambda request, address: None  # a client that goes away is the point of some tests
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/stream.mjpg"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
