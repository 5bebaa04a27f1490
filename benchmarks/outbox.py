"""How fast the outbox writes and drains, and how long `put` takes.

    python -m benchmarks.outbox [--folder DIR] [--rows N] [--per-s RATE]

`--folder` chooses the disk that is measured (a folder is made in it, and removed). The broker is a mosquitto on loopback.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import rig
from benchmarks.arguments import at_least, existing_folder, positive
from edge_agent.core.ports import Message, Publisher
from edge_agent.errors import PublisherLostError
from edge_agent.publishers import mqtt
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import Outbox
from edge_agent.runtime.outbox.stock import MEMORY_ROWS
from tests.brokers import running_broker

TOPIC = "factory/leon/bottling/3/capper/vision/cap-01/result/top"
PAYLOAD_BYTES = 1300  # a result with two detections
LIMITS = {"max_rows": 1_000_000, "max_mb": 10_000, "drain_per_s": 100_000}


def message(number: int) -> Message:
    """A result of the usual size."""
    head = {"schema": "edge-agent/result/1", "device": "cap-01", "session": "5f0c", "seq": number, "filler": ""}
    head["filler"] = "x" * (PAYLOAD_BYTES - len(json.dumps(head)))
    return Message(TOPIC, json.dumps(head).encode(), qos=1)


@contextmanager
def outbox_in(folder: Path, port: int | None) -> Iterator[Outbox]:
    """A running outbox; without a port there is no broker."""

    def connect() -> Publisher:
        if port is None:
            raise PublisherLostError("there is no broker")
        return mqtt.create(mqtt.Config(host="127.0.0.1", port=port), "ea-benchmark-records")

    link = Link("records", connect)
    outbox = Outbox(link, folder=folder, **LIMITS)
    outbox.start()
    link.start()
    try:
        yield outbox
    finally:
        outbox.stop(0)
        link.stop(5)


def percentiles(name: str, values_s: Sequence[float]) -> None:
    """One line."""
    cuts = statistics.quantiles(values_s, n=1000)
    p50, p99, p999 = (f"{cuts[index] * 1e3:.3f}" for index in (499, 989, 998))
    print(f"{name}: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max(values_s) * 1e3:.3f} ms")


def measure_put(folder: Path, rows: int, per_s: float) -> None:
    """How long the caller waits, and how long until a row is on disk, at a rate a line may have."""
    took_s, on_disk_s = list[float](), list[float]()
    with outbox_in(folder, None) as outbox:
        ended = threading.Event()
        lag = threading.Thread(target=_watch_lag, args=(outbox, ended, on_disk_s))
        lag.start()
        io = _written_bytes()
        for number in range(rows):
            one = message(number)
            time.sleep(1 / per_s)
            began_s = time.perf_counter()
            outbox.put("result", one)
            took_s.append(time.perf_counter() - began_s)
        ended.set()
        lag.join()
        time.sleep(1)
        written = _written_bytes() - io
    percentiles(f"put, {per_s:g} a second", took_s)
    percentiles("until a row is committed", on_disk_s)
    if io:
        print(f"written to the disk: {written / rows / 1e3:.1f} kB for a row of {PAYLOAD_BYTES / 1e3:.1f} kB")


def _watch_lag(outbox: Outbox, ended: threading.Event, lags_s: list[float]) -> None:
    """How long rows stay in memory alone, seen twice a millisecond."""
    since_s: float | None = None
    while not ended.wait(0.0005):
        now_s = time.perf_counter()
        waits = bool(outbox._stock.unwritten())
        if waits and since_s is None:
            since_s = now_s
        elif not waits and since_s is not None:
            lags_s.append(now_s - since_s)
            since_s = None


def _written_bytes() -> int:
    """What this process has had written to block devices so far; 0 on file systems in memory."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def measure_write(folder: Path, rows: int) -> None:
    """As fast as it goes, until all is on disk."""
    with outbox_in(folder, None) as outbox:
        messages = [message(number) for number in range(rows)]
        began_s = time.perf_counter()
        for one in messages:
            while outbox._stock.unwritten() > MEMORY_ROWS // 2:
                time.sleep(0.001)
            outbox.put("result", one)
        while outbox._stock.unwritten():
            time.sleep(0.001)
        took_s = time.perf_counter() - began_s
    size = (folder / "outbox.db").stat().st_size
    payload = sum(len(one.topic) + len(one.payload) for one in messages)
    print(f"writes: {rows / took_s:,.0f} a second; the file is {size / payload:.2f} times what is in it")


def measure_wear(folder: Path, broker_folder: Path, rows: int, per_s: float) -> None:
    """What the disk gets of a line whose broker is there: written, delivered, deleted."""
    before = _written_bytes()
    with running_broker(broker_folder) as broker, outbox_in(folder, broker.port) as outbox:
        for number in range(rows):
            outbox.put("result", message(number))
            time.sleep(1 / per_s)
        while outbox.waiting():
            time.sleep(0.005)
    if written := _written_bytes() - before:
        print(f"written to the disk, {per_s:g} a second, delivered at once: {written / rows / 1e3:.1f} kB for a row")


def measure_drain(folder: Path, broker_folder: Path, rows: int) -> None:
    """What waits on disk, to a broker with one subscriber's worth of nothing: the outbox is measured."""
    with running_broker(broker_folder) as broker, outbox_in(folder, broker.port) as outbox:
        while not outbox.counts["delivered"]:
            time.sleep(0.001)
        began_s, before = time.perf_counter(), outbox.waiting()
        while outbox.waiting():
            time.sleep(0.005)
        took_s = time.perf_counter() - began_s
    print(f"drains: {before / took_s:,.0f} a second, of {rows:,} rows")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=existing_folder, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rows", type=at_least(100), default=20_000)
    parser.add_argument("--per-s", type=positive, default=100, help="rate for the time that put takes")
    wish = parser.parse_args()
    rig.require_mosquitto()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {wish.folder}", flush=True)
    with tempfile.TemporaryDirectory(dir=wish.folder) as name:
        folder = Path(name)
        measure_put(folder / "put", min(wish.rows, 1000), wish.per_s)
        measure_write(folder / "many", wish.rows)
        measure_wear(folder / "wear", folder, min(wish.rows, 4000), 5 * wish.per_s)
        measure_drain(folder / "many", folder, wish.rows)


if __name__ == "__main__":
    rig.run(main)
