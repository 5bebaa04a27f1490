"""How long a verdict takes to a subscriber: on an idle broker connection, and while a backlog of results drains.

    python -m benchmarks.verdicts [--repeat N] [--seconds S] [--rows N] [--bundled] [--json]

The real `edge-agent run`, a mosquitto on loopback, and subscribers that are processes of their own. Windows of all kinds
take turns, each with a fresh agent, so that a machine that slows down favours none. Capture to subscriber is the
verdict's `latency_ms.total` and the time from `sent_mono_ms` to its receipt; what lies between the two (the beginning
of the message, measured: 0.07 ms, 99th percentile 0.12) is in neither.

Example: python -m benchmarks.verdicts --repeat 3 --json > verdicts.json
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import shutil
import signal
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import rig
from benchmarks.arguments import at_least, existing_folder, positive
from benchmarks.outbox import TOPIC, message, outbox_in
from edge_agent.models.bundled import ONNX
from edge_agent.runtime.outbox.stock import MEMORY_ROWS
from tests.brokers import running_broker

SETTLE_S = 2.0  # after the first verdict: the first connections and caches are not what is measured
DEFAULT_PER_S, FULL_PER_S = 200, 100_000
HELD_PER_S = 0.001  # nothing drains until the agent is told to
CONDITIONS = {"idle": None, "default rate": DEFAULT_PER_S, "full rate": FULL_PER_S}
ROUND = ("idle", "default rate", "idle", "full rate")
OLD = "5f0c"  # the session of what `benchmarks.outbox` writes


@dataclass(frozen=True, slots=True)
class Heard:
    """One message. `sent_ms` and `total_ms` are a verdict's own words."""

    received_ms: float
    session: str
    seq: int
    verdict: str
    sent_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class Window:
    """What one agent did in one window of time."""

    condition: str
    seconds: float
    verdicts: int
    unknown: int
    missing: int  # gaps in the verdicts' numbers
    capture_to_subscriber_ms: rig.Spread
    sent_to_subscriber_ms: rig.Spread
    drained_per_s: float
    results_lost: int = 0
    results_in_order: bool = True


# ---- subscribers


class Ear:
    """A subscriber in a process of its own. `read` makes of each message, and when it came (monotonic), what `end` gives."""

    def __init__(self, port: int, topic: str, read: Callable[[int, bytes], Any] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._count = context.Value("q", 0, lock=False)
        self._process = context.Process(
            target=_listen, args=(port, topic, theirs, self._count, read or _read), daemon=True
        )
        self._process.start()
        if not self._pipe.poll(rig.UP_S):
            raise rig.BenchmarkError(f"the subscriber to {topic} got no subscription within {rig.UP_S:.0f} s")
        self._pipe.recv()

    @property
    def count(self) -> int:
        """How many messages have come."""
        return int(self._count.value)

    def end(self) -> list[Any]:
        """Ends it; all that it has heard, `Heard` if nothing else was asked for."""
        self._pipe.send("end")
        heard: list[Any] = self._pipe.recv()
        self._process.join()
        return heard

    def kill(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()


def _listen(port: int, topic: str, pipe: Any, count: Any, read: Callable[[int, bytes], Any]) -> None:
    """In the other process. Nothing is parsed before the end, so that the next receipt is not late."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    gc.disable()  # its pauses would be measured as the verdict's
    heard: list[tuple[int, bytes]] = []

    def hear(_client: Any, _userdata: Any, message: Any) -> None:
        heard.append((time.monotonic_ns(), message.payload))
        count.value = len(heard)

    client = rig.listening(port, topic, hear, lambda: pipe.send("subscribed"))
    pipe.recv()
    client.disconnect()
    client.loop_stop()
    pipe.send([read(received_ns, payload) for received_ns, payload in heard])


def _read(received_ns: int, payload: bytes) -> Heard:
    said = json.loads(payload)
    total_ms = said.get("latency_ms", {}).get("total", 0.0)
    sent_ms = said.get("sent_mono_ms", 0.0)
    return Heard(received_ns / 1e6, said["session"], said["seq"], said.get("verdict", ""), sent_ms, total_ms)


# ---- one window


def fill(folder: Path, rows: int) -> None:
    """Results that an earlier agent could not send."""
    with outbox_in(folder, None) as outbox:
        for number in range(1, rows + 1):
            while outbox._stock.unwritten() > MEMORY_ROWS // 2:
                time.sleep(0.001)
            outbox.put("result", message(number))
        while outbox._stock.unwritten():
            time.sleep(0.001)


def measure(condition: str, folder: Path, backlog: Path, wish: argparse.Namespace, port: int) -> Window:
    """One agent, from its start to its stop."""
    per_s = CONDITIONS[condition]
    folder.mkdir()
    if per_s is not None:
        shutil.copytree(backlog, folder / "records")
    config = rig.agent_config(port, wish.model, folder, fps=wish.fps)
    config["records"]["drain_per_s"] = DEFAULT_PER_S if per_s is None else HELD_PER_S
    with ears(port) as (verdicts, results):
        agent = rig.Process("agent", config, folder, "run")
        try:
            agent.wait_for_log("state", state="running")
            time.sleep(SETTLE_S)
            began_ms = time.monotonic_ns() / 1e6
            if per_s is not None:
                config["records"]["drain_per_s"] = per_s
                agent.configure(config)
                agent.send(signal.SIGHUP)
            rig.wait_until(lambda: per_s is not None and results.count >= wish.rows, wish.seconds)
            ended_ms = time.monotonic_ns() / 1e6
            agent.check()
        finally:
            agent.stop()
        heard, recorded = verdicts.end(), results.end()
    old = [it.received_ms for it in recorded if it.session == OLD]
    if per_s is not None and not old:
        raise rig.BenchmarkError(f"nothing drained{agent.log_end()}")
    if old:
        began_ms, ended_ms = old[0], min(ended_ms, old[-1])
    expected = {it.session: it.seq for it in heard} | ({} if per_s is None else {OLD: wish.rows})
    window = _window(condition, (began_ms, ended_ms), heard, recorded)
    lost, in_order = account(expected, recorded, _left(folder))
    return replace(window, results_lost=lost, results_in_order=in_order)


@contextlib.contextmanager
def ears(port: int) -> Iterator[tuple[Ear, Ear]]:
    """Of verdicts, and of results."""
    with contextlib.ExitStack() as ends:
        verdicts = Ear(port, f"{rig.ROOT}/verdict/top")
        ends.callback(verdicts.kill)
        results = Ear(port, TOPIC)
        ends.callback(results.kill)
        yield verdicts, results


def _left(folder: Path) -> list[tuple[str, int]]:
    """Session and number of the results that are still on disk."""
    with contextlib.closing(sqlite3.connect(folder / "records" / "outbox.db")) as database:
        payloads = [json.loads(payload) for (payload,) in database.execute("SELECT payload FROM result")]
    return [(said["session"], said["seq"]) for said in payloads]


def _window(condition: str, span_ms: tuple[float, float], heard: Sequence[Heard], recorded: Sequence[Heard]) -> Window:
    began_ms, ended_ms = span_ms
    seconds = (ended_ms - began_ms) / 1e3
    inside = [it for it in heard if began_ms <= it.sent_ms <= ended_ms]
    if len(inside) < 2:  # noqa: PLR2004 - there is no spread of one
        raise rig.BenchmarkError(
            f"{len(inside)} verdicts came in {seconds:.1f} s: too few; more --rows or a higher --fps"
        )
    sent_ms = [it.received_ms - it.sent_ms for it in inside]
    drained = sum(began_ms <= it.received_ms <= ended_ms for it in recorded)
    return Window(
        condition,
        round(seconds, 2),
        len(inside),
        sum(it.verdict == "unknown" for it in inside),
        inside[-1].seq - inside[0].seq + 1 - len(inside),
        rig.spread([it.total_ms + more_ms for it, more_ms in zip(inside, sent_ms, strict=True)]),
        rig.spread(sent_ms),
        round(drained / seconds, 1),
    )


def account(
    expected: Mapping[str, int], recorded: Sequence[Heard], left: Sequence[tuple[str, int]]
) -> tuple[int, bool]:
    """How many results, 1 to what is expected of each session, were neither heard nor left; and whether order was kept."""
    came: dict[str, list[int]] = {session: [] for session in expected}
    for it in recorded:
        came.setdefault(it.session, []).append(it.seq)
    in_order = all(seqs == list(range(1, len(seqs) + 1)) for seqs in came.values())
    kept = {session: set(seqs) for session, seqs in came.items()}
    for session, seq in left:
        kept.setdefault(session, set()).add(seq)
    return sum(len(set(range(1, last + 1)) - kept[session]) for session, last in expected.items()), in_order


# ---- all windows


def measure_all(wish: argparse.Namespace, folder: Path) -> list[Window]:
    """Rounds of windows, and an idle one at the end."""
    names = [*ROUND * wish.repeat, "idle"]
    windows = []
    with rig.steps(len(names) + 1) as begin, running_broker(folder, rig.BROKER) as broker:
        begin(f"writing {wish.rows:,} results")
        fill(folder / "backlog", wish.rows)
        for number, condition in enumerate(names):
            begin(condition)
            own = folder / str(number)
            windows.append(measure(condition, own, folder / "backlog", wish, broker.port))
            shutil.rmtree(own)
    return windows


def summary(windows: Sequence[Window]) -> dict[str, Any]:
    """By condition: medians over its windows, the worst of all, and what must be 0."""
    said = {}
    for condition in CONDITIONS:
        of = [window for window in windows if window.condition == condition]
        said[condition] = {
            "windows": len(of),
            "verdicts": sum(window.verdicts for window in of),
            "unknown": sum(window.unknown for window in of),
            "missing": sum(window.missing for window in of),
            "capture_to_subscriber_ms": _median([window.capture_to_subscriber_ms for window in of]),
            "sent_to_subscriber_ms": _median([window.sent_to_subscriber_ms for window in of]),
            "drained_per_s": statistics.median(window.drained_per_s for window in of),
            "results_lost": sum(window.results_lost for window in of),
            "results_in_order": all(window.results_in_order for window in of),
        }
    return said


def _median(spreads: Sequence[rig.Spread]) -> rig.Spread:
    p50, p99 = (round(statistics.median(getattr(it, name) for it in spreads), 3) for name in ("p50", "p99"))
    return rig.Spread(p50, p99, max(it.max for it in spreads))


def table(said: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title="verdicts to a subscriber, ms: p50 / p99 (medians over windows) / worst", title_justify="left")
    shown.add_column("outbox")
    for heading in ("windows", "verdicts", "capture to subscriber", "sent to subscriber", "results a second", "lost"):
        shown.add_column(heading, justify="right")
    shown.add_column("in order")
    for condition, it in said.items():
        shown.add_row(
            condition,
            str(it["windows"]),
            f"{it['verdicts']} ({it['unknown']} unknown, {it['missing']} missing)",
            str(it["capture_to_subscriber_ms"]),
            str(it["sent_to_subscriber_ms"]),
            f"{it['drained_per_s']:,.0f}",
            str(it["results_lost"]),
            "yes" if it["results_in_order"] else "NO",
        )
    return shown


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=at_least(1), default=5, help="rounds of windows (default: 5)")
    parser.add_argument("--seconds", type=positive, default=20, help="of a window at most (default: 20)")
    parser.add_argument("--rows", type=at_least(1), default=20_000, help="results that wait (default: 20000)")
    parser.add_argument("--fps", type=positive, default=20, help="parts a second (default: 20)")
    parser.add_argument("--bundled", action="store_true", help="judge with the bundled model, not with a recording")
    parser.add_argument(
        "--folder", type=existing_folder, default=Path(tempfile.gettempdir()), help="the disk to work on"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wish = parser.parse_args()
    rig.require_mosquitto()
    asked, found = dict(vars(wish)), rig.machine()
    with tempfile.TemporaryDirectory(dir=wish.folder) as name:
        wish.model = ONNX if wish.bundled else rig.recording(Path(name) / "one.npz")
        windows = measure_all(wish, Path(name))
    found |= rig.load("after")
    said = summary(windows)
    if wish.json:
        windows_said = [asdict(window) for window in windows]
        print(rig.as_json("verdicts", asked, {"machine": found, "conditions": said, "windows": windows_said}))
    else:
        rig.show(table(said), rig.words(found))


if __name__ == "__main__":
    rig.run(main)
