"""A small valid configuration, and what becomes of it when a part is written differently."""

from pathlib import Path

import pytest

from edge_agent.config import ConfigProblemsError, Loaded, load

GOOD = """\
[device]
id = "cap-01"
site = "leon"
area = "bottling"
line = "3"
cell = "capper"

[model]
path = "models/caps.tflite"

[[cameras]]
id = "top"
kind = "replay"
source = "photos"

  [cameras.trigger]
  kind = "frame"

  [[cameras.rules]]
  kind = "defect"
  reject = ["crack"]

  [[cameras.rules]]
  kind = "count"
  label = "cap"

[[cameras]]
id = "side"
kind = "opencv"
source = 0

  [cameras.trigger]
  kind = "line"
  parts = ["bottle"]
  line = [[0.6, 0.0], [0.6, 1.0]]

[mqtt]
host = "localhost"

  [mqtt.tls]
  ca = "ca.pem"
"""


def changed(*changes: tuple[str, str]) -> str:
    """The document with each first text replaced; one that is not there is a mistake of the test."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def line_of(text: str, words: str) -> int:
    """The number, from 1, of the first line that holds the words."""
    return next(number for number, line in enumerate(text.split("\n"), 1) if words in line)


def load_text(folder: Path, text: str | bytes) -> Loaded:
    """What the document is loaded as."""
    path = folder / "agent.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


def problems_of(folder: Path, text: str | bytes) -> list[tuple[int | None, str, str]]:
    """Line, key and message of each problem; the file is always the one that was read."""
    with pytest.raises(ConfigProblemsError) as caught:
        load_text(folder, text)
    assert {problem.file for problem in caught.value.problems} == {str(folder / "agent.toml")}
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def problem_of(folder: Path, text: str | bytes) -> tuple[int | None, str, str]:
    """The one problem there is."""
    (problem,) = problems_of(folder, text)
    return problem
