"""What a benchmark may be told, for argparse: what is wrong ends it with exit code 2 before anything is measured."""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any


def at_least(least: int) -> Callable[[str], int]:
    """A whole number, no smaller than that."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
        return number

    return read


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def existing_file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def existing_folder(text: str) -> Path:
    """A folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


def new_file(text: str) -> Path:
    """A file in a folder that is there."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: it is a folder, or lies in none that is there")
    return path


def figures(key: str) -> Callable[[str], dict[str, Any]]:
    """What a benchmark has written as JSON, with that key in it."""

    def read(text: str) -> dict[str, Any]:
        try:
            said = json.loads(Path(text).read_text())
        except OSError as error:
            raise argparse.ArgumentTypeError(f"{text} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text} is no JSON document") from error
        if not isinstance(said, dict) or key not in said:
            raise argparse.ArgumentTypeError(f"{text} holds no such figures: there is no {key!r} in it")
        return said

    return read
