"""A camera that plays a folder of pictures, one picture, or a video.

No picture is ever left out. With `fps` above 0 picture k comes at `t0 + k / fps`, counted from the first read: an
absolute schedule, so that it does not drift. A reader that comes late gets the pictures that are due at once, until it
has caught up. With `fps = 0` each comes as soon as it is asked for.
"""

import os
import re
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.clock import SYSTEM, Clock
from edge_agent.core.datatypes import Frame, Image
from edge_agent.core.ports import Camera
from edge_agent.errors import CameraLostError, ConfigError, EndOfStreamError, FrameTimeoutError
from edge_agent.opencv_setup import prepare

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
VIDEOS = frozenset({".avi", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_Pictures = Generator[tuple[Image, str], None, None]
"""Each picture with its name."""

CACHE_BYTES = 64 << 20
"""A folder that loops keeps up to this much decoded: 24 pictures of 1280x720, and a loop costs no decoding."""

NAMED_MOST = 10
"""Of the pictures that cannot be read."""


class Config(BaseModel):
    """Pictures or a video in place of a camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["replay"] = "replay"
    source: Path = Field(description="A folder of pictures (with its subfolders), a picture, or a video")
    fps: float = Field(
        0.0, ge=0, le=1000, description="Frames per second; 0 = as fast as the line takes them, nothing dropped"
    )
    loop: bool = Field(False, description="Start again at the end")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Without a frame for so long the camera counts as lost")

    @model_validator(mode="after")
    def _fast_enough(self) -> "Config":
        if self.fps and 1 / self.fps >= self.timeout_s:
            raise ValueError(f"fps: with a frame every {1 / self.fps:g} s timeout_s must be more than that")
        return self


def create(config: Config, *, clock: Clock = SYSTEM) -> Camera:
    """Opens the source and decodes its first picture.

    Raises:
        CameraLostError: the source is not there, or none of its pictures can be read.
        UnavailableError: OpenCV is not installed.
    """
    return ReplayCamera(config, clock=clock)


def verify(config: Config) -> None:
    """Raises `ConfigError` where the source is not there or, by the names, holds no pictures. Opens nothing."""
    source = config.source
    if not source.exists():
        raise ConfigError(f"there is no file or folder {source} to replay")
    if source.is_dir() and not _pictures_below(source):
        raise ConfigError(f"the folder {source} holds no pictures ({_listed(PICTURES)})")
    if source.is_file() and source.suffix.lower() not in PICTURES | VIDEOS:
        raise ConfigError(f"{source} is by its name no picture ({_listed(PICTURES)}) and no video ({_listed(VIDEOS)})")


class ReplayCamera:
    """Plays files. `close` may be called from any thread and ends a read that waits.

    `captured_ns` is when the picture was due and ready; decoding is done before. `length` is the number of pictures,
    once round; None: the video does not say. `skipped` counts those that could not be read, each time round;
    `unreadable` names the first few. One that breaks off is no picture: what it does not show cannot be judged.
    """

    def __init__(self, config: Config, *, cache_bytes: int = CACHE_BYTES, clock: Clock = SYSTEM) -> None:
        prepare()
        self._clock = clock
        self.skipped = 0
        self.unreadable: list[str] = []
        self.length: int | None = None
        self._source = config.source
        self._period_ns = round(1e9 / config.fps) if config.fps else 0
        self._loop = config.loop
        self._cache_bytes = cache_bytes if config.loop else 0
        self._seq = 0
        self._start_ns: int | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pictures = self._open()
        self._next: tuple[Image, str] | None = next(self._pictures)

    def read(self, timeout_s: float) -> Frame:
        """See `Camera.read`. Images are read-only: those of a looping folder are given out again."""
        if self._start_ns is None:
            self._start_ns = self._clock.mono_ns()
        image, name = self._decoded()
        self._wait_until(self._start_ns + self._seq * self._period_ns, timeout_s)
        self._next = None
        seq, self._seq = self._seq, self._seq + 1
        return Frame(image, seq, self._clock.mono_ns(), name)

    def close(self) -> None:
        """See `Camera.close`."""
        self._closed.set()
        with self._lock:
            self._next = None
            self._pictures.close()

    def _decoded(self) -> tuple[Image, str]:
        with self._lock:
            if self._closed.is_set():
                raise CameraLostError(f"{self._source} was closed")
            if self._next is None:
                self._next = next(self._pictures, None)
            if self._next is None:
                raise EndOfStreamError(f"{self._source} has no more pictures")
            return self._next

    def _wait_until(self, due_ns: int, timeout_s: float) -> None:
        latest_ns = self._clock.mono_ns() + int(timeout_s * 1e9)
        if self._clock.wait_until(min(due_ns, latest_ns), self._closed):
            raise CameraLostError(f"{self._source} was closed")
        if due_ns > latest_ns:
            raise FrameTimeoutError(f"the next picture of {self._source} was not due within {timeout_s:g} s")

    def _open(self) -> _Pictures:
        if not self._source.exists():
            raise CameraLostError(f"there is no file or folder {self._source} to replay")
        if self._source.is_dir():
            return self._play_pictures(self._source, _pictures_below(self._source))
        if self._source.suffix.lower() in PICTURES:
            return self._play_pictures(self._source.parent, [self._source])
        return self._play_video()

    def _play_pictures(self, folder: Path, paths: Sequence[Path]) -> _Pictures:
        cache: dict[Path, Image] = {}
        room = self._cache_bytes
        self.length = len(paths)
        while True:
            skipped_before = self.skipped
            for path in paths:
                name = printable(path.relative_to(folder))
                image = cache.get(path)
                if image is None:
                    image = self._read_picture(path)
                    if image is None:
                        self._skip(name)
                        continue
                    if image.nbytes <= room:
                        cache[path] = image
                        room -= image.nbytes
                yield image, name
            if self.skipped - skipped_before == len(paths):
                raise CameraLostError(self._nothing_to_see())
            if not self._loop:
                return

    def _skip(self, name: str) -> None:
        self.skipped += 1
        if len(self.unreadable) < NAMED_MOST and name not in self.unreadable:
            self.unreadable.append(name)

    def _nothing_to_see(self) -> str:
        if self._source.is_dir():
            return f"{printable(self._source)} holds no picture that can be read ({_listed(PICTURES)})"
        return f"{printable(self._source)} cannot be read as a picture: it is damaged, empty, too large, or of another kind"

    def _read_picture(self, path: Path) -> Image | None:
        """The picture, or None: its file is damaged, empty, too large or not allowed."""
        import cv2

        try:
            # Not cv2.imread: it crashes the process where a name is not UTF-8.
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except (OSError, MemoryError, cv2.error):
            image = None
        if image is None and not self._source.exists():
            raise CameraLostError(f"{printable(self._source)} has gone while it was replayed")
        return None if image is None else _read_only(cast("Image", image))

    def _play_video(self) -> _Pictures:
        import cv2

        path, name = str(self._source), printable(self._source)
        if path != os.fsencode(path).decode("utf-8", "replace"):  # OpenCV would crash the process
            raise CameraLostError(f"{name} cannot be opened as a video: its name is not UTF-8; rename it")
        count = 0
        while count == 0 or self._loop:
            capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
            self.length = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) or None
            count = 0
            try:
                while (image := capture.read()[1]) is not None:
                    yield _read_only(cast("Image", image)), f"{printable(Path(self._source.name))}#{count}"
                    count += 1
            except cv2.error as error:
                raise CameraLostError(f"{name} holds a picture that OpenCV cannot read: {error.err}") from error
            finally:
                capture.release()
            if count == 0:
                raise CameraLostError(f"{name} cannot be read as a video: it is damaged, gone, or of another kind")


def printable(path: Path) -> str:
    """The path as text that any message can carry: what is not UTF-8, or a control character, becomes U+FFFD."""
    text = os.fsencode(path.as_posix()).decode("utf-8", "replace")
    return re.sub("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]", "\ufffd", text)


def _pictures_below(folder: Path) -> list[Path]:
    """The pictures in a folder and its subfolders, hidden ones left out, in natural order: 2.jpg before 10.jpg."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
    return sorted((path for path in found if path.is_file()), key=_natural_key)


def _natural_key(path: Path) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path.as_posix()


def _listed(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffix.lstrip(".") for suffix in suffixes))


def _read_only(image: Image) -> Image:
    image.flags.writeable = False
    return image
