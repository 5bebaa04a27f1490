"""TensorRT engines that were built on this machine, in a folder: found by what they were made of, and only if genuine.

A plan is code for the GPU, so one that somebody else put there must not be loaded: see `models.sealed`. Nothing here
needs TensorRT.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import structlog

from edge_agent.core import plan_header
from edge_agent.core.plan_header import OURS
from edge_agent.models import sealed

log = structlog.get_logger()

KEPT_OF_A_MODEL, KEPT, KEPT_BAD, KEPT_TIMINGS = 4, 16, 2, 2
"""So many engines of one model, of all models, and of those set aside, are kept; and what was measured, per machine."""

_LOOK_S = 0.5
_OF_THE_MACHINE = ("tensorrt", "gpu", "compute", "driver")


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what an engine is and where it runs.

    Attributes:
        model_sha256: of the ONNX file, in hexadecimal.
        tensorrt: version, such as `10.3.0`.
        gpu: its name, and what else tells it from others.
        compute: compute capability, such as `8.7`.
        driver: the CUDA version that the driver serves, such as 12060 for 12.6.
        precision: `fp32`, `fp16` or `int8`, as asked of the builder.
        shapes: of every input: name and sides.
        workspace_mb: the most that one layer may take for itself while the engine runs.
        flags: what else was asked of the builder, in alphabetical order.
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    compute: str
    driver: int
    precision: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    workspace_mb: int
    flags: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits; another for any other value."""
        return _digest(self.facts())

    def facts(self) -> dict[str, Any]:
        """As JSON gives it back."""
        return dict(json.loads(json.dumps(asdict(self))))


class EngineCache:
    """The folder. Any number of processes may read it; who builds for it holds `lock`.

    `set_aside`: why, for each engine that this object found unfit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seal = sealed.Seal(folder)
        self.set_aside: list[str] = []

    def find(self, recipe: Recipe) -> Path | None:
        """The engine of exactly this recipe; None where there is none. One that is not genuine is set aside and logged.

        Raises:
            ConfigError: the folder cannot be read, or others can write to it.
        """
        path = self._path(recipe)
        return path if self._is_genuine(path) and _recipe_in(path) == recipe.facts() else None

    def find_similar(self, recipe: Recipe) -> Path | None:
        """The newest engine of the same model for the same machine made with other options; None where there is none."""
        wanted = recipe.facts()
        for path in self._engines(recipe.model_sha256):
            found = _recipe_in(path)
            same = all(found.get(key) == wanted[key] for key in ("model_sha256", *_OF_THE_MACHINE))
            if same and found != wanted and self._is_genuine(path):
                return path
        return None

    def add(self, recipe: Recipe, metadata: Mapping[str, Any], plan: bytes | memoryview) -> Path:
        """Keeps an engine, with the model's metadata before the plan; removes the oldest where there are many.

        What stands in `metadata` under `OURS` is kept there, beside the fields of the recipe.

        Raises:
            TransientError: the disk has no room.
            ConfigError: the folder cannot be used.
        """
        self.check_room(len(plan))
        path = self._path(recipe)
        self._seal.write(path, {**metadata, OURS: {**metadata.get(OURS, {}), **recipe.facts()}}, plan)
        self._remove_old(path)
        return path

    def discard(self, path: Path, why: str) -> None:
        """Sets an engine aside that turned out to be unfit, so that it is not found again."""
        log.warning("engine_set_aside", path=str(path), why=why)
        self.set_aside.append(why)
        with suppress(OSError):  # in a folder that cannot be written it is found and refused again
            path.replace(path.with_name(path.name + ".bad"))

    def timing_cache(self, recipe: Recipe) -> bytes:
        """What earlier builds on this machine measured; empty where nothing genuine was kept."""
        path = self._timing_path(recipe)
        if not self._is_genuine(path):
            return b""
        data = path.read_bytes()
        return data[plan_header.split(data)[1] :]

    def keep_timing_cache(self, recipe: Recipe, measured: bytes) -> None:
        """Keeps it for the next build on this machine, of whatever model. Raises as `add`."""
        if measured:
            self.check_room(len(measured))
            self._seal.write(self._timing_path(recipe), {OURS: {"machine": _machine(recipe)}}, measured)
            for path in _newest_first(self.folder.glob("timing-*.cache"))[KEPT_TIMINGS:]:
                path.unlink(missing_ok=True)

    def check_room(self, nbytes: int) -> None:
        """Raises `TransientError` where a file of that size would fill the disk, `ConfigError` without a folder."""
        sealed.make_folder(self.folder)
        sealed.check_room(self.folder, nbytes)

    @contextmanager
    def lock(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """One build at a time: two would spoil each other's measurements, and need twice the memory.

        Waits for the other one, and calls `on_wait` twice a second meanwhile. The kernel frees the lock however a
        process ends. What a build that was killed has left half-written is removed.

        Raises:
            ConfigError: the folder cannot be used.
        """
        with self._lock_file() as fd:
            while not _taken(fd):
                on_wait()
                time.sleep(_LOOK_S)
            self._remove_parts()
            yield

    def sweep(self, others: Sequence[Path] = ()) -> None:
        """Removes what a build that was killed has left half-written, here and in `others`, unless another one runs."""
        if self.folder.is_dir():
            with self._lock_file() as fd:
                if _taken(fd):
                    self._remove_parts(others)

    def _path(self, recipe: Recipe) -> Path:
        return self.folder / f"{recipe.model_sha256[:16]}-{recipe.fingerprint[:16]}.engine"

    def _timing_path(self, recipe: Recipe) -> Path:
        return self.folder / f"timing-{_digest(_machine(recipe))[:16]}.cache"

    def _is_genuine(self, path: Path) -> bool:
        with sealed.in_words(path):
            if not path.is_file():
                return False
        sealed.check_folder(self.folder)
        why = self._seal.fault(path)
        if why:
            self.discard(path, why)
        return why is None

    def _engines(self, model_sha256: str = "") -> list[Path]:
        """Those of a model, or all; the newest first."""
        return _newest_first(self.folder.glob(f"{model_sha256[:16]}*.engine"))

    def _remove_old(self, added: Path) -> None:
        """Keeps the one that was added in any case: a board without a battery may have built it in 1970."""
        model = added.name[:16]
        of_model = [path for path in self._engines(model) if path != added]
        others = [path for path in self._engines() if path != added and not path.name.startswith(model)]
        old = of_model[KEPT_OF_A_MODEL - 1 :] + (of_model[: KEPT_OF_A_MODEL - 1] + others)[KEPT - 1 :]
        for path in old:
            log.info("engine_removed", path=str(path), why="there are newer ones")
            path.unlink(missing_ok=True)
        for path in _newest_first(self.folder.glob("*.bad"))[KEPT_BAD:]:
            path.unlink(missing_ok=True)

    def _remove_parts(self, others: Sequence[Path] = ()) -> None:
        for part in (*self.folder.glob(f"*{sealed.PART}"), *others):
            part.unlink(missing_ok=True)

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        sealed.make_folder(self.folder)
        with sealed.in_words(self.folder):
            fd = sealed.open_lock(self.folder / "build.lock")
        try:
            yield fd
        finally:
            os.close(fd)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _machine(recipe: Recipe) -> dict[str, Any]:
    facts = recipe.facts()
    return {key: facts[key] for key in _OF_THE_MACHINE}


def _recipe_in(path: Path) -> Mapping[str, Any]:
    """What the file says of itself, believed or not; empty where it says nothing."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        own = sealed.read_metadata(file).get(OURS)
        if isinstance(own, dict):
            return {field.name: own.get(field.name) for field in fields(Recipe)}
    return {}


def _newest_first(paths: Iterator[Path]) -> list[Path]:
    ages: list[tuple[float, Path]] = []
    for path in paths:
        with suppress(OSError):  # another process may remove it meanwhile
            ages.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(ages, reverse=True)]


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
