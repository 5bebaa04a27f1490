"""Small things that the module hands around: shapes, memory, loggers."""

import sys
from math import prod

from tensorrt._api import Enum

_SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
_LETTERS = "FEWIV"


class _Checked(type):
    """pybind11 refuses a subclass whose `__init__` did not call that of the bound class."""

    def __call__(cls, *arguments, **named):
        made = super().__call__(*arguments, **named)
        if "_made" not in vars(made):
            bound = next(kind for kind in cls.__mro__ if kind.__module__.startswith("tensorrt"))
            raise TypeError(f"tensorrt.tensorrt.{bound.__name__}.__init__() must be called when overriding __init__")
        return made


class Bound(metaclass=_Checked):
    """What may be subclassed in Python."""

    def __init__(self):
        self._made = True


class ILogger(Bound):
    Severity = Enum("Severity", _SEVERITIES, module="tensorrt")
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity, msg):
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger(ILogger):
    def __init__(self, min_severity=ILogger.Severity.WARNING):
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity, msg):
        if int(severity) <= int(self.min_severity):
            sys.stderr.write(f"[11/21/2026-12:00:00] [TRT] [{_LETTERS[severity.value]}] {msg}\n")


class Dims:
    """A shape. Neither a tuple nor an iterator of its own: indices and a length are all it has."""

    MAX_DIMS = 8

    def __init__(self, shape=()):
        self._sides = [int(side) for side in shape]

    def __len__(self):
        return len(self._sides)

    def __getitem__(self, index):
        return tuple(self._sides[index]) if isinstance(index, slice) else self._sides[index]

    def __setitem__(self, index, side):
        self._sides[index] = side

    def __eq__(self, other):
        return self._sides == list(other)

    __hash__ = None

    def __repr__(self):
        return str(tuple(self._sides))


class IHostMemory(bytes):
    """A buffer, and nothing else: the real one has neither length nor parts. (Only `bytes` gives buffers in Python 3.10.)"""

    @property
    def nbytes(self):
        return bytes.__len__(self)

    def _refused(self, *_arguments):
        raise TypeError("'tensorrt.tensorrt.IHostMemory' object is only a buffer")

    __getitem__ = __iter__ = __add__ = __contains__ = __eq__ = _refused
    __hash__ = None


def volume(iterable):
    return prod(iterable)
