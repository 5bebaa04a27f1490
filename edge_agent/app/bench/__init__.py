"""How fast the agent is on this machine, next to the bare engine in the same run."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from edge_agent.app.bench.figures import Tally
from edge_agent.app.bench.pictures import Reel, jpegs, pictures
from edge_agent.app.bench.report import Measured, document
from edge_agent.app.bench.setting import Setting, Subject, Wish, sibling, start_arm
from edge_agent.app.bench.stand import FRAME, FULL, LEAST_RUNS, LINE, BenchError, Stand
from edge_agent.app.bench.startup import observe
from edge_agent.app.demo.broker import HOST, start_broker
from edge_agent.app.demo.children import Child, children
from edge_agent.app.demo.trial import work_folder
from edge_agent.runtime import heap

PACED_AT = 0.6  # of what the engine can do: a line that is not overloaded
PACED_FOR = 2  # times as many frames: a 99th percentile needs many
CAMERAS_AT = 1.5  # of it, together: more than it can do
ROUNDS, LONGEST_S = 10, 2.0  # so many at least where the engine is quick, with blocks of so many seconds at most
LEAST_ROUNDS = 2  # one has no spread
WARM_UP_S = (1.0, 5.0, 25.0)  # a slow engine needs longer
STARTS, SHORT_S = 3, 10.0  # who wants it quickly gets one start

Step = Callable[[Stand, Tally], None]


class Tell(Protocol):
    """Hears how far it is."""

    def __call__(self, words: str, share: float) -> None:
        """What is done now, and which share of all is done."""
        ...


def run_bench(wish: Wish, tell: Tell, mosquitto: str | None) -> dict[str, Any]:
    """Measures, and gives the one document. `mosquitto` is the program; without it verdicts go to `/dev/null`.

    Raises:
        ConfigError: the model cannot be used.
        UsageError: the pictures cannot, or there is nothing to compare with.
        BenchError, ChildDiedError: something did not do what it should.
    """
    heap.share_one()
    load_before = os.getloadavg()[0]
    tell("making the frames", 0.0)
    frames = pictures(wish.source, wish.size)
    with work_folder(None) as folder, children() as started, _outlet(mosquitto, folder, started) as (outlet, publisher):
        setting = Setting(wish, folder, publisher, frames)
        setting.write_picture()
        tell("loading the model", 0.0)
        subject = setting.look()
        other = _other(setting)
        with ExitStack() as stack:
            stands = [_stand(stack, setting, "one", subject, started)]
            stands += [_stand(stack, other[0], "other", other[1], started)] if other else []
            tallies = _rounds(stands, setting.wish, tell)
            tell("counting memory, frame by frame", 0.9)
            memory_taken, pages_touched = stands[0].memory_taken(), stands[0].pages_touched()
            failures = sum(stand.failures for stand in stands)
            unsent = sum(stand.unsent for stand in stands)
        fps = PACED_AT * statistics.median(block.fps for block in tallies[0].full)
        process = setting.process("process", subject, max(1.0, min(1000.0, fps)))
        times = STARTS if wish.seconds >= SHORT_S else 1
        starts, memory = observe(process, folder, started, times, lambda: tell("starting the agent", 0.95))
    compared = (other[1], tallies[1]) if other else None
    return document(
        Measured(
            setting=setting,
            outlet=outlet,
            subject=subject,
            tally=tallies[0],
            other=compared,
            memory_taken=memory_taken,
            pages_touched=pages_touched,
            starts=starts,
            memory=memory,
            failures=failures,
            unsent=unsent,
            load_before=load_before,
        )
    )


def _capacity(stand: Stand) -> float:
    """Frames per second, once it is warm.

    Raises:
        BenchError: there are no verdicts, or fewer than can be measured.
    """
    for seconds in WARM_UP_S:
        stand.block([FULL], 0.0, seconds)
        block = stand.block([FULL], 0.0, seconds)
        if len(block.sendings) >= LEAST_RUNS:
            return block.fps
    raise BenchError(
        f"in {WARM_UP_S[-1]:.0f} s {len(block.sendings)} verdicts were sent, {stand.unsent} were not, and {stand.failures} "
        "frames could not be judged: that cannot be measured"
    )


def _other(setting: Setting) -> tuple[Setting, Subject] | None:
    """What it is to be compared with."""
    wish = setting.wish
    if wish.compare is None:
        return None
    other = setting.with_model(sibling(wish.model, wish.compare), wish.compare)
    return other, other.look()


@contextmanager
def _outlet(mosquitto: str | None, folder: Path, started: list[Child]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where verdicts go, in words and as a table; standard output is out of the way meanwhile."""
    if mosquitto is not None:
        port = start_broker(mosquitto, folder, started)
        yield f"mosquitto on {HOST}", {"mqtt": {"host": HOST, "port": port}}
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield "standard output to /dev/null: there is no mosquitto here", {"stdout": {}}


def _stand(stack: ExitStack, setting: Setting, name: str, subject: Subject, started: list[Child]) -> Stand:
    loaded = setting.agent(name, subject)
    if loaded.config.mqtt is not None:
        start_arm(loaded, setting.folder, started)
    stand = Stand(loaded, jpegs(setting.frames) if setting.wish.jpeg else Reel(setting.frames))
    stack.callback(stand.stop)
    stand.start()
    return stand


def _rounds(stands: list[Stand], wish: Wish, tell: Tell) -> list[Tally]:
    """All kinds of blocks in turn, and of the engines each in turn, there and back; what is compared lies side by side."""
    tell("warming up", 0.05)
    steps_of = [_steps(stand, wish) for stand in stands]
    tallies = [Tally() for _ in stands]
    began_s, number = time.monotonic(), 0
    while (share := (time.monotonic() - began_s) / wish.seconds) < 1 or number < LEAST_ROUNDS:
        tell(f"round {number + 1}", 0.1 + 0.8 * min(1.0, share))
        there = list(zip(*steps_of, strict=True))
        for same_of_each in there if number % 2 == 0 else reversed(there):
            for step, stand, tally in zip(same_of_each, stands, tallies, strict=True):
                step(stand, tally)
        number += 1
    return tallies


def _steps(stand: Stand, wish: Wish) -> list[Step]:
    """What is done in a round. Finds out first how much the engine can do."""
    fps = _capacity(stand)
    many = [f"{FRAME}-{number}" for number in range(1, wish.cameras + 1)] if wish.cameras > 1 else []
    paced = PACED_FOR / PACED_AT
    shares = (2 + 2 * paced + bool(many)) * (2 if wish.compare else 1)
    block_s = max(LEAST_RUNS / fps, min(LONGEST_S, wish.seconds / (ROUNDS * shares)))
    paced_s, crowded_s = 1 / (PACED_AT * fps), len(many) / (CAMERAS_AT * fps)
    steps: list[Step] = [
        lambda stand, tally: tally.bare.append(stand.bare(block_s)),
        lambda stand, tally: tally.full.append(stand.block([FULL], 0.0, block_s)),
        lambda stand, tally: tally.paced.append(stand.block([FRAME], paced_s, block_s * paced, alone=True)),
        lambda stand, tally: tally.line.append(stand.block([LINE], paced_s, block_s * paced, alone=True)),
    ]
    if many:
        steps.append(lambda stand, tally: tally.cameras.append(stand.block(many, crowded_s, block_s)))
    return steps
