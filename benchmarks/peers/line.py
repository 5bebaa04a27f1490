"""What a peer is given and what it gives: decoded pictures at a pace, and a message about each over MQTT.

It runs in two environments, so it imports nothing of edge-agent.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

HEADS = ("yolo", "nms", "yolox")
CONF, IOU = 0.25, 0.7

Image = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """One object; the box in pixels of the frame, two corners."""

    class_id: int
    score: float
    box: tuple[float, float, float, float]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every peer is told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True, help="folder of pictures, all decoded before the first")
    parser.add_argument("--fps", type=float, default=0, help="0: the next one as soon as the last is done (default)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default: 1)")
    parser.add_argument("--port", type=int, required=True, help="of the broker on this machine")
    parser.add_argument("--topic", required=True)
    return parser


def pictures(folder: Path) -> list[Image]:
    """All of a folder, in the order of their names."""
    return [read(path) for path in sorted(folder.iterdir())]


def read(path: Path) -> Image:
    """Raises `ValueError` where it is no picture."""
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path} is no picture")
    return image


class Line:
    """A camera and a broker."""

    def __init__(self, wish: argparse.Namespace) -> None:
        self._pictures = pictures(wish.frames)
        self._period_s = 1 / wish.fps if wish.fps else 0.0
        self._topic = wish.topic
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", wish.port)
        self._client.loop_start()

    def frames(self) -> Iterator[tuple[Image, float]]:
        """Each picture and when it was there, in ms of the monotonic clock; what is late by a whole one is left out."""
        due_s = time.monotonic()
        count = 0
        while True:
            now_s = time.monotonic()
            if self._period_s:
                due_s += self._period_s * max(1, 1 + (now_s - due_s) // self._period_s)
                time.sleep(max(0.0, due_s - now_s))
            yield self._pictures[count % len(self._pictures)], time.monotonic() * 1e3
            count += 1

    def tell(self, frame_ms: float, infer_ms: float, found: Sequence[Found]) -> None:
        """Publishes what is known of a frame. `infer_ms` is the engine's bare run."""
        done_ms = time.monotonic() * 1e3
        said = {"frame_ms": frame_ms, "infer_ms": infer_ms, "done_ms": done_ms, "found": [asdict(it) for it in found]}
        self._client.publish(self._topic, json.dumps(said), qos=1)
