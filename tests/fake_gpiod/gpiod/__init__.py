"""A stand-in for libgpiod's Python package, version 2, for machines that have no GPIO chip.

It keeps to the names, signatures and errors that are used. Of outputs it knows one chip, and remembers the voltage of
each line (True is high) and when it changed. A chip with inputs is a folder of pipes (`inputs.py`), whose other ends
are in the hands of a test (`tests/chips.py`), in this process or another.
"""

import errno
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from gpiod import inputs, line

CHIP = "/dev/gpiochip0"
LINES = 32
NAMES = {"GPIO17": 17, "GPIO27": 27}


class Rig:
    """What the lines are, and how the chip behaves: tests set it."""

    def __init__(self):
        self.high = {}
        self.changes = []
        self.holders = {}
        self.settings = {}
        self.event_buffer_size = None
        self.broken = False


RIG = Rig()


@dataclass
class LineSettings:
    direction: line.Direction = line.Direction.AS_IS
    edge_detection: line.Edge = line.Edge.NONE
    bias: line.Bias = line.Bias.AS_IS
    active_low: bool = False
    debounce_period: timedelta = timedelta()
    event_clock: line.Clock = line.Clock.MONOTONIC
    output_value: line.Value = line.Value.INACTIVE


class LineRequest:
    """Of outputs."""

    def __init__(self, settings):
        self._settings = settings
        for offset, setting in settings.items():
            self._drive(offset, setting.output_value)

    def set_value(self, name, value):
        if RIG.broken:
            raise OSError(errno.EIO, "Input/output error")
        self._drive(_offset(name), value)

    def release(self):
        for offset in self._settings:
            del RIG.holders[offset]

    def _drive(self, offset, value):
        high = (value is line.Value.ACTIVE) != self._settings[offset].active_low
        if RIG.high.get(offset) != high:
            RIG.high[offset] = high
            RIG.changes.append((time.monotonic(), offset, high))


class Chip:
    def __init__(self, path):
        if path != CHIP:
            _check_folder(Path(path))
        self._path = path

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def request_lines(self, config, consumer=None, event_buffer_size=None):
        settings = {_offset(name): setting for name, setting in config.items()}
        RIG.settings, RIG.event_buffer_size = settings, event_buffer_size
        if self._path != CHIP:
            ((offset, setting),) = settings.items()
            return inputs.LineRequest(Path(self._path, str(offset)), setting, event_buffer_size)
        for offset in settings:
            if offset in RIG.holders:
                raise OSError(errno.EBUSY, "Device or resource busy")
        RIG.holders.update(dict.fromkeys(settings, consumer))
        assert all(setting.direction is line.Direction.OUTPUT for setting in settings.values())
        return LineRequest(settings)


def request_lines(path, config, consumer=None, event_buffer_size=None):
    with Chip(path) as chip:
        return chip.request_lines(config, consumer, event_buffer_size)


def _check_folder(path):
    """A file that says `denied` shuts it: whoever runs tests may be root, who may open everything."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    if not path.is_dir():
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
    if (path / "denied").exists():
        raise PermissionError(errno.EACCES, "Permission denied")


def _offset(name):
    """A name that is not known is a file that is not there, as far as the library is concerned."""
    if isinstance(name, str):
        if name not in NAMES:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return NAMES[name]
    if not 0 <= name < LINES:
        raise ValueError("line offset of out range")
    return name
