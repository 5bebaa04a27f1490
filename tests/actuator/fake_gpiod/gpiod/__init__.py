"""A stand-in for libgpiod's Python package, version 2, for machines that have no GPIO chip.

It keeps to the names and signatures that are used, knows one chip of 32 lines, two of them with names, lets a line be
held by one request at a time, and remembers the voltage of each line (True is high) and when it changed.
"""

import errno
import time
from types import SimpleNamespace

from gpiod import line

CHIP = "/dev/gpiochip0"
NAMES = {"GPIO17": 17, "GPIO27": 27}


class Rig:
    """What the lines are, and how the chip behaves: tests set it."""

    def __init__(self):
        self.high = {}
        self.changes = []
        self.holders = {}
        self.broken = False


RIG = Rig()


class LineSettings(SimpleNamespace):
    def __init__(self, *, direction, output_value=line.Value.INACTIVE, active_low=False):
        super().__init__(direction=direction, output_value=output_value, active_low=active_low)


class LineRequest:
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


def request_lines(path, *, consumer, config):
    if path != CHIP:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
    settings = {_offset(name): setting for name, setting in config.items()}
    for offset in settings:
        if offset in RIG.holders:
            raise OSError(errno.EBUSY, "Device or resource busy")
    RIG.holders.update(dict.fromkeys(settings, consumer))
    assert all(setting.direction is line.Direction.OUTPUT for setting in settings.values())
    return LineRequest(settings)


def _offset(name):
    if isinstance(name, int):
        if not 0 <= name < 32:
            raise OSError(errno.EINVAL, "Invalid argument")
        return name
    if name not in NAMES:
        raise ValueError(f"line '{name}' not found")
    return NAMES[name]
