"""Which engine runs a model's file on this board: the backend, and the file that it loads.

TensorRT runs an ONNX model by an engine that was built from it on this machine. Where it has not been built yet, the next
backend of the profile can stand in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent import plugins
from edge_agent.app.engine_build import BuildRequest, recipe_for
from edge_agent.app.places import engines_folder
from edge_agent.core.datatypes import Thresholds
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError, UnavailableError
from edge_agent.hardware.profile import WORKSPACE_MB, Profile
from edge_agent.models import bare, onnx_file
from edge_agent.models.engine_cache import EngineCache, Recipe

TENSORRT, BUILT_FROM = "tensorrt", ".onnx"
FRAME_WH = (1280, 720)


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What is asked for.

    Attributes:
        path: the model's file.
        order: the profile's order of backends.
        labels: a file with names of the classes; None: those in the model.
        backend: the one wanted, or `auto`.
        threads: of a CPU engine; None: all cores.
        decoder: its configuration; None where the model must tell.
        thresholds: of detections.
        build: how TensorRT's engine is built where the model is ONNX; None: TensorRT does not run ONNX models.
        allow_host_code: whether an engine may bring code for the CPU along.
        frame_wh: the size that pictures have about: by it is measured where they are resized faster.
    """

    path: Path
    order: Sequence[str]
    labels: Path | None = None
    backend: str = "auto"
    threads: int | None = None
    decoder: object = None
    thresholds: Thresholds = Thresholds()
    build: BuildRequest | None = None
    allow_host_code: bool = False
    frame_wh: tuple[int, int] = FRAME_WH


def build_request(
    model: Path,
    profile: Profile | None,
    *,
    precision: str = "auto",
    workspace_mb: int | None = None,
    folder: Path | None = None,
) -> BuildRequest:
    """How the engine of a model is built on this board: as asked, else as the profile says, in the folder for engines."""
    of_profile = profile.tensorrt.workspace_mb if profile and profile.tensorrt else WORKSPACE_MB
    return BuildRequest(
        model=model,
        folder=engines_folder(folder),
        precision=precision,
        preferred=profile.precision if profile else "fp16",
        workspace_mb=workspace_mb or of_profile,
    )


@dataclass(frozen=True, slots=True)
class Way:
    """A backend, the file that it loads (the model's, or an engine built from it), and why, in words."""

    backend: str
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """TensorRT's engine of an ONNX model on this machine, whether it has been built or not."""

    build: BuildRequest
    recipe: Recipe
    cache: EngineCache
    why: str

    def built(self) -> Way | None:
        """The engine, where it was built."""
        path = self.cache.find(self.recipe)
        why = f"{self.why}, by the engine {self.recipe.fingerprint[:16]} built here"
        return Way(TENSORRT, path, why) if path else None

    def similar(self) -> Way | None:
        """Another engine of the same model for this machine, built with other options."""
        path = self.cache.find_similar(self.recipe)
        return Way(TENSORRT, path, f"{self.why}, by an engine with other options: {path.name}") if path else None


def blueprint(file: bare.ModelFile, request: EngineRequest) -> Blueprint | None:
    """None where something else than TensorRT is to run the file.

    Raises:
        ConfigError: TensorRT is to, and cannot; `may_stand_in` says whether another may then.
    """
    if request.build is None or file.path.suffix.lower() != BUILT_FROM or not _prefers_tensorrt(request):
        return None
    recipe = recipe_for(request.build, file.sha256, onnx_file.read(file.path))
    why = (
        "tensorrt was asked for"
        if request.backend == TENSORRT
        else "tensorrt is the first of the profile's engines that runs it here"
    )
    return Blueprint(request.build, recipe, EngineCache(request.build.folder), why)


def may_stand_in(request: EngineRequest, error: ConfigError) -> bool:
    """Whether another backend may run the model where TensorRT cannot, or the configuration asks for what cannot be had."""
    asks_for_precision = request.build is not None and request.build.precision != "auto"
    return request.backend == "auto" and not (asks_for_precision and isinstance(error, ModelError))


def _prefers_tensorrt(request: EngineRequest) -> bool:
    """Whether it comes before everything else that reads ONNX models and is installed, whether it can be used or not."""
    if request.backend != "auto":
        return request.backend == TENSORRT
    for kind in request.order:
        module = plugins.load("backends", kind)
        if kind == TENSORRT or (BUILT_FROM in module.SUFFIXES and module.available() is None):
            return kind == TENSORRT
    return False


def direct_ways(file: bare.ModelFile, wanted: str, order: Sequence[str]) -> list[Way]:
    """The backends that load the file itself, best first: the wanted one, or all that can by the profile's order.

    Raises:
        ModelError: none here reads such files.
        UnavailableError: there is no such backend, or none that reads them is installed.
    """
    known, suffix = plugins.kinds("backends"), file.path.suffix.lower()
    if wanted not in ("auto", *known):
        raise UnavailableError(f"there is no engine {wanted!r} here; there are {', '.join(known)}")
    if wanted != "auto":
        problem = _obstacle(wanted, file)
        if problem:
            raise problem
        return [Way(wanted, file.path, f"{wanted} was asked for")]
    readers = [kind for kind in known if suffix in plugins.load("backends", kind).SUFFIXES]
    if not readers:
        formats = sorted({suffix for kind in known for suffix in plugins.load("backends", kind).SUFFIXES})
        raise ModelError(f"{file.path}: no engine here reads {suffix} files; it may be {', '.join(formats)}")
    ranked = [kind for kind in order if kind in readers] + [kind for kind in readers if kind not in order]
    able = [kind for kind in ranked if _obstacle(kind, file) is None]
    if not able:
        raise _obstacle(ranked[0], file) or AssertionError
    why = f"is the first of the profile's engines that runs {suffix} files here"
    return [Way(kind, file.path, f"{kind} {why}") for kind in able[:1]] + [
        Way(kind, file.path, f"{kind} is the next of the profile's engines") for kind in able[1:]
    ]


def _obstacle(kind: str, file: bare.ModelFile) -> ConfigError | None:
    """Why that backend does not run the file here; None where it does."""
    module = plugins.load("backends", kind)
    if file.path.suffix.lower() not in module.SUFFIXES:
        return ModelError(f"{file.path}: {kind} reads {', '.join(module.SUFFIXES)} files")
    missing = module.available()
    return UnavailableError(f"{file.path}: {missing}") if missing else None


def stand_ins(file: bare.ModelFile, order: Sequence[str], why: str) -> list[Way]:
    """The backends that can run the model in TensorRT's place; none where none is installed."""
    try:
        ways = direct_ways(file, "auto", order)
    except ConfigError:
        return []
    return [Way(way.backend, way.path, f"{way.backend} stands in: {why}") for way in ways]


def cannot_run(error: EdgeAgentError) -> str:
    """Why another backend runs the model in TensorRT's place."""
    return f"TensorRT cannot run it here: {error}"


def not_built(file: bare.ModelFile) -> str:
    """Why TensorRT does not run an ONNX model yet, and what to do."""
    return f"no TensorRT engine has been built for it yet: edge-agent model build {file.path.name}"
