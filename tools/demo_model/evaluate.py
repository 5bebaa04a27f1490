"""How good an exported file is, by the agent's own engine and decoder, on lines that training has not seen."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from edge_agent.app.engine import EngineRequest, open_engine
from edge_agent.cameras.simulator import LABELS, Config
from edge_agent.core.datatypes import Thresholds
from tools.demo_model.pictures import PER_LINE, VALIDATION, hard, of_line, usual
from tools.demo_model.precision import Tally

KINDS: dict[str, Callable[[int], Config]] = {"usual": usual, "hard": hard}
_EVERYTHING = Thresholds(conf=0.001)


def evaluate(path: Path, kind: str, lines: int) -> dict[str, Any]:
    """`map50` and `map50_95` of a file, of all classes and of each; `pictures` and `objects` say of how many."""
    tallies = [Tally() for _ in LABELS]
    engine = open_engine(EngineRequest(path, (), thresholds=_EVERYTHING))
    with closing(engine.backend):
        for line in track(range(lines), f"{path.name}, {kind} lines", lines):
            for picture in of_line(KINDS[kind](VALIDATION + line)):
                found, _ = engine.look(picture.frame)
                for number, tally in enumerate(tallies):
                    tally.add(found, picture, number)
    precisions = np.array([tally.precisions() for tally in tallies])
    return {
        "pictures": lines * PER_LINE,
        "map50": _rounded(precisions[:, 0].mean()),
        "map50_95": _rounded(precisions.mean()),
        "classes": {
            label: {"objects": tally.there, "map50": _rounded(row[0]), "map50_95": _rounded(row.mean())}
            for label, tally, row in zip(LABELS, tallies, precisions, strict=True)
        },
    }


def _rounded(share: float) -> float:
    return round(float(share), 3)
