"""libgpiod for Python, version 2: whether it is there, and lines of a chip, with words for what can go wrong."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.errors import UnavailableError

_NO_ACCESS = "permission denied: add the user that runs this to the group of that file, mostly gpio, and log in anew"
_NO_CHIP = "that is no GPIO chip; gpiodetect lists those that are there"
_OF_CHIP = {
    errno.ENOENT: "there is no such file; gpiodetect lists the chips that are there",
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.ENODEV: _NO_CHIP,
    errno.ENOTTY: _NO_CHIP,
}
_OF_LINES = {
    errno.ENOENT: "the chip has no line of that name",
    errno.EBUSY: "somebody else holds it",
    errno.ENXIO: "the chip does not report edges of it",
    errno.EINVAL: "the chip does not take these settings for it",
}


def library() -> Any:
    """The package gpiod.

    Raises:
        UnavailableError: it is not installed, or is the one for libgpiod 1.
    """
    try:
        import gpiod
    except ImportError as error:
        raise UnavailableError("GPIO needs the package gpiod: pip install 'gpiod>=2.1'") from error
    if not hasattr(gpiod, "request_lines"):  # libgpiod 1, as Debian 12 has it, has the same name
        raise UnavailableError("the package gpiod that is installed is for libgpiod 1: pip install 'gpiod>=2.1'")
    return gpiod


def request_lines(
    chip: Path, settings: Mapping[int | str, Any], consumer: str, event_buffer_size: int | None = None
) -> Any:
    """The library's `LineRequest` for lines by offset or name, each with its `LineSettings`.

    Raises:
        OSError: which lines of which chip, why not, and what to do, in one sentence.
        UnavailableError: see `library`.
    """
    gpiod = library()
    names = " and ".join(map(str, settings))
    try:
        opened = gpiod.Chip(str(chip))
    except OSError as error:
        raise OSError(f"cannot use line {names} of {chip}: {_why(error, _OF_CHIP)}") from error
    with opened:
        try:
            return opened.request_lines(dict(settings), consumer, event_buffer_size)
        except (OSError, ValueError) as error:
            raise OSError(
                f"cannot use line {names} of {chip}: {_why(error, _OF_LINES)}; gpioinfo shows the chips, their lines and "
                "who holds them"
            ) from error


def _why(error: OSError | ValueError, words: Mapping[int, str]) -> str:
    """The library says by a `ValueError` that the chip has fewer lines."""
    if isinstance(error, OSError):
        return words.get(error.errno or 0) or error.strerror or str(error)
    return str(error)
