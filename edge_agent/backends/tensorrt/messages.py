"""What TensorRT says: into our log, and into the errors that follow from it.

TensorRT gives reasons to its logger only; its calls answer None or False. It keeps the first logger of a process for some
of its messages whatever later ones it is given, and may call it from threads of its own: so there is one for the process.
"""

import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog

from edge_agent.errors import DeviceMemoryError, EngineUnfitError, ModelError

log = structlog.get_logger()

REBUILD = "rebuild it: edge-agent model build MODEL.onnx --force --out FILE.engine"
_LETTERS_MOST = 300
_ERRORS_KEPT = 32
_LOGGED_MOST, _LOGGED_WITHIN_S = 20, 60.0

_VERSIONS = re.compile(r"expecting library version [\d.]+\d got ([\d.]+\d)")
_COMPUTES = re.compile(r"expecting compute [\d.]+\d got compute ([\d.]+\d)")
"""What it expects is what it is itself; what it got is what the plan says."""

# Lower-case pieces of its sentences, from libnvinfer 8.5.3 and libnvinfer_lean 11.4.0 and from reports on versions between.
_OF_MEMORY = ("out of memory", "outofmemory", "could not be allocated")
_OF_HOST_CODE = ("hostcodeallowed", "host code")
_OF_PLUGINS = (
    "could not find plugin",
    "not found in plugin registry",
    "no plugin creator",
    "could not find any supported",
)
_OF_VERSION = ("not compatible with this version", "version tag does not match", "does not match runtime major version")
_OF_DEVICE = ("incompatible device", "current device is not compatible", "platform specific tag mismatch")
_OF_DAMAGE = ("magic", "serialization", "no engine found in plan", "not a valid plan", "deserialize")


class Messages:
    """Hears everything, from any thread. Never raises: an exception in a logger ends the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: deque[tuple[int, str]] = deque(maxlen=_ERRORS_KEPT)
        self._warning = ""
        self._logged_s: deque[float] = deque(maxlen=_LOGGED_MOST)
        self._withheld = 0

    def hear(self, severity: str, text: str) -> None:
        """One message. Errors are warnings in our log: what they mean for the line, the exception says that follows."""
        try:
            words = " ".join(text.split())[:_LETTERS_MOST]
            if severity == "INFO":
                log.debug("tensorrt_says", severity="info", text=words)
            elif severity != "VERBOSE":
                self._keep(severity, words)
                self._warn(severity, words)
        except Exception:  # noqa: BLE001, S110 - see the class
            pass

    def last_words(self) -> list[str]:
        """The errors since the last call, oldest first: those of this thread, or where there are none, of all."""
        me = threading.get_ident()
        with self._lock:
            mine = [words for thread, words in self._errors if thread == me]
            others = [(thread, words) for thread, words in self._errors if thread != me]
            self._errors.clear()
            self._errors.extend(others if mine else [])
        return mine or [words for _, words in others]

    def last_warning(self) -> str:
        """What it warned of last, in any thread. TensorRT 8 has only a warning to say that it cannot be started."""
        return self._warning

    def _keep(self, severity: str, words: str) -> None:
        with self._lock:
            if severity == "WARNING":
                self._warning = words
            else:
                self._errors.append((threading.get_ident(), words))

    def _warn(self, severity: str, words: str) -> None:
        """What goes wrong may go wrong with every frame."""
        now_s = time.monotonic()
        with self._lock:
            is_full = len(self._logged_s) == _LOGGED_MOST and now_s - self._logged_s[0] < _LOGGED_WITHIN_S
            self._withheld += is_full
            withheld = self._withheld
            if not is_full:
                self._logged_s.append(now_s)
                self._withheld = 0
        if not is_full:
            log.warning("tensorrt_says", severity=severity.lower(), text=words, withheld=withheld)


MESSAGES = Messages()


@cache
def logger_for(tensorrt: Any) -> Any:
    """The process's one `ILogger`, which hands everything to `MESSAGES`. TensorRT keeps no reference: we keep it for good."""

    class Logger(tensorrt.ILogger):  # type: ignore[misc] # its class is known at run time only
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)  # pybind11 wants it called by name

        def log(self, severity: Any, msg: str) -> None:
            MESSAGES.hear(severity.name, msg)

    return Logger()


@dataclass(frozen=True, slots=True)
class Build:
    """A TensorRT version and a GPU's compute capability: what is here, or what a plan was built by; None is unknown."""

    tensorrt: str | None = None
    compute: str | None = None

    def differs(self, other: "Build") -> bool:
        """Whether both are known to be different, patch level included, the build number not."""
        return _differ(self.tensorrt, other.tensorrt, parts=3) or _differ(self.compute, other.compute, parts=2)


def sm(compute: str) -> str:
    """`8.7` as `sm_87`."""
    return f"sm_{compute.replace('.', '')}"


def refusal(path: Path, here: Build, made: Build, said: list[str], memory: str) -> ModelError:
    """Why a plan cannot be loaded, in a sentence.

    Args:
        path: the file.
        here: what is here.
        made: what the file says of itself.
        said: TensorRT's errors.
        memory: how much memory the GPU has, in words.
    """
    if is_of_memory(said):
        return too_little_memory(path, memory)
    text = " ".join(said).lower()
    if _has(text, _OF_HOST_CODE):
        return EngineUnfitError(
            f"{path}: is a version-compatible engine, which runs code of its own on this computer; if you trust whoever made "
            f"it, set allow_host_code = true under [hardware.tensorrt], else {REBUILD}"
        )
    made = Build(_found(_VERSIONS, said) or made.tensorrt, _found(_COMPUTES, said) or made.compute)
    if made.differs(here) or _has(text, (*_OF_VERSION, *_OF_DEVICE)):
        return EngineUnfitError(f"{path}: {_made_words(made, text)}; this is {_here_words(here)}; {REBUILD}")
    if _has(text, _OF_PLUGINS):
        return ModelError(f"{path}: needs a TensorRT plugin that is not here; {_advised(here, said)}")
    if _has(text, _OF_DAMAGE):
        return EngineUnfitError(
            f"{path}: is no engine that TensorRT {here.tensorrt} can read, or is damaged; copy it again, or "
            f"{_advised(here, said)}"
        )
    return EngineUnfitError(f"{path}: cannot be loaded; {_advised(here, said)}")


def too_little_memory(path: Path, memory: str) -> DeviceMemoryError:
    """The GPU's memory is full; `memory` says how full."""
    return DeviceMemoryError(
        f"{path}: the GPU has too little memory for it ({memory}); stop other programs that use it, or build the engine "
        "with FP16 or for a smaller picture"
    )


def is_of_memory(said: list[str]) -> bool:
    """Whether what TensorRT says is that the GPU's memory is full."""
    return _has(" ".join(said).lower(), _OF_MEMORY)


def says(version: str | None, said: list[str]) -> str:
    """The last errors, in brackets."""
    return f"(TensorRT {version} says: {' / '.join(said[:2]) or 'nothing'})"


def _advised(here: Build, said: list[str]) -> str:
    return f"{REBUILD} {says(here.tensorrt, said)}"


def _made_words(made: Build, text: str) -> str:
    """`built by TensorRT 8.6.1 for sm_87`, as far as it is known."""
    if made.tensorrt:
        maker = f" by TensorRT {made.tensorrt}"
    else:
        maker = " by another version of TensorRT" if _has(text, _OF_VERSION) else ""
    if made.compute:
        return f"built{maker} for {sm(made.compute)}"
    return f"built{maker} for another GPU" if _has(text, _OF_DEVICE) else f"built{maker}"


def _here_words(here: Build) -> str:
    return f"TensorRT {here.tensorrt} on {sm(here.compute or '?')}"


def _found(pattern: re.Pattern[str], said: list[str]) -> str | None:
    return next((match[1] for match in map(pattern.search, said) if match), None)


def _has(text: str, pieces: tuple[str, ...]) -> bool:
    return any(piece in text for piece in pieces)


def _differ(one: str | None, other: str | None, *, parts: int) -> bool:
    return None not in (one, other) and str(one).split(".")[:parts] != str(other).split(".")[:parts]
