"""Makes the pictures of the documents: a simulated frame as the model sees it, the demo's display, and `status`.

    .venv/bin/python scripts/make_pictures.py [--seed N]

Writes docs/pictures/frame.jpg, demo.svg, status.svg and score.svg. Needs mosquitto; takes half a minute.
"""

import argparse
import io
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2
from rich.console import Console, RenderableType

from edge_agent import logs
from edge_agent.app.annotate import annotate, write_picture
from edge_agent.app.demo import run_demo
from edge_agent.app.demo.broker import find_mosquitto
from edge_agent.app.demo.simulated import Wish
from edge_agent.app.demo.trial import View
from edge_agent.app.display import picture, score_table
from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.app.instances import find
from edge_agent.app.status import look
from edge_agent.app.status_screen import WIDTH, screen
from edge_agent.cameras.simulator import Config
from edge_agent.cameras.simulator.line import Line
from edge_agent.core.datatypes import Thresholds
from edge_agent.models.bundled import TFLITE

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SECONDS = 30.0  # of the demo
COLUMNS = 100
WIDTH_PX = 960


class Photographer:
    """A viewer that keeps one screen of the display: the one with most to tell."""

    def __init__(self, config: Path) -> None:
        self.screen: RenderableType | None = None
        self.status: RenderableType | None = None
        self._config, self._most = config, 0

    def say(self, words: str) -> None:
        """What the demo is about to do."""
        print(words)

    def show(self, view: View) -> None:
        """Keeps the screen with the most rejects among the last verdicts, of several the latest."""
        rejects = sum(told.word == "reject" for told in view.recent[-6:])
        if rejects >= self._most:
            self._most, self.screen = rejects, picture(view, COLUMNS, time.monotonic_ns())
            self._look()

    def _look(self) -> None:
        """What `edge-agent status` shows at the same moment."""
        report = look(find(str(self._config)))
        if report.condition == "up":
            self.status = screen(report)


def main() -> None:
    """Makes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    logs.configure("warning")
    FOLDER.mkdir(exist_ok=True)
    take_frame(seed)
    with tempfile.TemporaryDirectory() as folder:
        viewer = Photographer(Path(folder, "line.toml"))
        finished = run_demo(Wish(SECONDS, None, seed), viewer, find_mosquitto(), Path(folder))
    if viewer.screen is None or viewer.status is None:
        raise SystemExit("the demo showed nothing")
    save(viewer.screen, "demo", "edge-agent demo")
    save(viewer.status, "status", "edge-agent status", WIDTH)
    save(score_table(finished.sheet), "score", "edge-agent demo: the score sheet")
    print(finished.sheet.sentence)


def take_frame(seed: int) -> None:
    """A frame with several defects, and what the bundled model finds in it."""
    engine = open_engine(EngineRequest(TFLITE, ("tflite", "onnx"), thresholds=Thresholds(0.25, 0.7)))
    with closing(engine.backend):
        image, _ = Line(Config(seed=seed)).look(moment(seed))
        found, _ = engine.look(image)
        seen = annotate(image, found, engine.model.labels, ((0.6, 0.0), (0.6, 1.0)), "right")
    height = round(seen.shape[0] * WIDTH_PX / seen.shape[1])
    write_picture(FOLDER / "frame.jpg", cv2.resize(seen, (WIDTH_PX, height), interpolation=cv2.INTER_AREA))


def moment(seed: int) -> float:
    """When, within a minute, the most defects are whole in the picture."""
    line = Line(Config(seed=seed))

    def defects(t_s: float) -> int:
        return len(
            {one.label for one in line.seen(t_s) if one.visible == 1 and one.label in ("crack", "label_misaligned")}
        )

    return max((0.1 * step for step in range(600)), key=defects)


def save(shown: RenderableType, name: str, title: str, columns: int = COLUMNS) -> None:
    """A screen of the terminal as SVG."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    console.save_svg(str(FOLDER / f"{name}.svg"), title=title)


if __name__ == "__main__":
    main()
