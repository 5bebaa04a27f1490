"""What suits a board: the schema of `hardware_profiles/*.toml`, the loader, and the choice."""

import difflib
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agent.errors import ConfigError
from edge_agent.hardware.probe import Board, tokens

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SITE_FOLDER = Path("/etc/edge-agent/hardware_profiles")
AUTO = "auto"
WORKSPACE_MB, BESIDE_MB = 512, 2500
"""For building TensorRT engines, where a profile does not say: docs/hardware.md says where the numbers are from."""
_SET_BY_THE_LOADER = ("name", "site")
_PYTHON_OF_JETPACK = {4: "3.6", 5: "3.8"}

Backend = Literal["tensorrt", "onnx", "tflite"]
Shed = Literal["evidence", "build", "frames"]
Overlap = Literal["auto", "off", "throughput"]
WORD_BITS = 64
REALTIME_MOST = 49  # kernels that are built for it run interrupts at 50


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Match(_Table):
    """Which boards the profile is for. A module is surer than a SoC, a SoC surer than an architecture."""

    modules: tuple[str, ...] = Field((), description="Module tokens; `p3701` stands for all `p3701-…`.")
    socs: tuple[str, ...] = Field((), description="Chips: `tegra234`, `bcm2712`.")
    arch: tuple[str, ...] = Field((), description="Architectures as `uname -m` names them.")
    cpu_features: tuple[str, ...] = Field((), description="Words of /proc/cpuinfo that must all be there besides.")


class Capture(_Table):
    """What to ask a camera for where the configuration does not say."""

    width: int = Field(1280, ge=16, le=16384, description="Pixels.")
    height: int = Field(720, ge=16, le=16384, description="Pixels.")
    fps: float = Field(30, gt=0, le=1000, description="Frames per second.")


class Thermal(_Table):
    """Limits of the hottest sensor that counts."""

    throttle_c: float = Field(gt=0, le=150, description="From here on the board slows itself down.")
    critical_c: float = Field(gt=0, le=150, description="From here on it switches off, or does all it can to cool.")
    hysteresis_c: float = Field(3.0, ge=0, le=50, description="So much below throttle_c it is cool again.")
    shed: tuple[Shed, ...] = Field((), description="What the agent does without while the board is hot, in this order.")
    shed_fps: float | None = Field(
        None, ge=1, le=1000, description="With `frames`: what cameras with a line give then."
    )

    @model_validator(mode="after")
    def _complete(self) -> "Thermal":
        if self.critical_c < self.throttle_c:
            raise ValueError("critical_c must not be below throttle_c")
        if len(set(self.shed)) < len(self.shed):
            raise ValueError("shed names something twice")
        if ("frames" in self.shed) != (self.shed_fps is not None):
            raise ValueError("shed_fps and `frames` in shed belong together")
        return self


class Budget(_Table):
    """What the board has to reach with a nano detector. docs/hardware.md says where the numbers are from."""

    fps: float = Field(gt=0, description="Sustained frames per second.")
    p99_ms: float = Field(gt=0, description="Latency added to the bare engine, 99th percentile.")
    rss_mb: float = Field(gt=0, description="Resident memory.")


class TensorRT(_Table):
    """What building an engine on the board may take. docs/hardware.md says where the numbers are from."""

    workspace_mb: int = Field(WORKSPACE_MB, ge=16, description="The most memory that one layer may take for itself.")
    beside_mb: int = Field(BESIDE_MB, ge=0, description="MemAvailable that building beside a serving engine needs.")


class SchedulingTable(_Table):
    """Where threads run, and which go first. docs/hardware.md says what it needs, and what it does."""

    engine_cores: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = Field(
        (), description="Cores of the pipeline's thread and the engine's own; none: any."
    )
    other_cores: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = Field(
        (), description="Cores of all other threads; none: any."
    )
    realtime: int | None = Field(
        None,
        ge=1,
        le=REALTIME_MOST,
        description="SCHED_FIFO priority of threads that a verdict waits for; absent: none.",
    )


class Power(_Table):
    """The power mode (`nvpmodel`) that the budget is for."""

    mode: str = Field(min_length=1, description="As nvpmodel names it: `MAXN_SUPER`, `25W`.")


class Profile(_Table):
    """One file of `hardware_profiles/`; the file's stem is the name."""

    name: str
    site: bool = False
    description: str = Field(min_length=1, description="The boards, in words.")
    match: Match = Field(Match(), description="Without any, the profile is taken by its name only.")
    backends: tuple[Backend, ...] = Field((), description="Engines in the order they are tried for a model's files.")
    precision: Literal["fp32", "fp16", "int8"] = Field("fp32", description="What suits the board best.")
    threads: int | None = Field(None, ge=1, le=256, description="Threads of a CPU engine; absent: all cores.")
    overlap: Overlap = Field("auto", description="Whether the next picture is prepared while the engine runs.")
    scheduling: SchedulingTable = SchedulingTable()
    capture: Capture = Capture()
    thermal: Thermal | None = Field(None, description="Absent: not known.")
    budget: Budget | None = Field(None, description="Absent: none was set.")
    tensorrt: TensorRT | None = Field(None, description="Absent: the board has no TensorRT, or nothing is known.")
    power: Power | None = Field(None, description="Absent: the board has no power modes, or any will do.")
    min_jetpack: int | None = Field(None, ge=4, description="The oldest JetPack that can be served.")
    supported: bool = Field(True, description="Whether the board can be served.")
    reason: str | None = Field(None, description="Why it cannot.")
    advice: str | None = Field(None, description="What would work.")

    @model_validator(mode="after")
    def _complete(self) -> "Profile":
        if self.supported and not self.backends:
            raise ValueError("backends: a supported board needs at least one")
        if not self.supported and not (self.reason and self.advice):
            raise ValueError("reason and advice: a board that is not supported needs both")
        return self


@dataclass(frozen=True, slots=True)
class Choice:
    """The profile for a board, if there is one; whether the board can be served; and why, in words for people."""

    profile: Profile | None
    supported: bool
    reason: str


def load_all(extra: Path | None = SITE_FOLDER) -> dict[str, Profile]:
    """The shipped profiles by name, and those of the folder `extra`, where it exists; of two of a name, the site's.

    Raises:
        ConfigError: with every broken file and key.
    """
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    if not shipped_folder().is_dir():
        raise ConfigError(f"{shipped_folder()}: the hardware profiles are missing; install edge-agent anew")
    for folder, site in ((shipped_folder(), False), (extra, True)):
        for path in _files(folder) if folder else ():
            try:
                profiles[path.stem] = load(path, site=site)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return profiles


def load(path: Path, *, site: bool = False) -> Profile:
    """One profile file.

    Raises:
        ConfigError: with every problem of the file, each naming file and key.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    problems = [f"{path}: {key}: is not a key of a profile" for key in _SET_BY_THE_LOADER if key in values]
    if path.stem == AUTO:
        problems.append(f"{path}: `auto` means the profile that fits; give the file another name")
    try:
        profile = Profile.model_validate({**values, "name": path.stem, "site": site})
    except ValidationError as error:
        problems += [f"{path}: {problem}" for problem in _problems(error)]
        raise ConfigError("\n".join(problems)) from None
    if problems:
        raise ConfigError("\n".join(problems))
    return profile


def shipped_folder() -> Path:
    """`hardware_profiles/`: inside the package where it was installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "hardware_profiles"
    return installed if installed.is_dir() else package.parent / "hardware_profiles"


def find(profiles: Mapping[str, Profile], name: str) -> Profile:
    """The profile of that name.

    Raises:
        ConfigError: there is none; the message says what there is.
    """
    if name in profiles:
        return profiles[name]
    close = difflib.get_close_matches(name, profiles, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(profiles))}"
    raise ConfigError(f"there is no hardware profile {name!r}; {hint}")


def choose(board: Board, profiles: Mapping[str, Profile], wanted: str = AUTO) -> Choice:
    """The profile `wanted` by name, or with `auto` the one that matches the board best.

    A module token beats a SoC, a SoC an architecture; among equals a longer token, then more CPU features, then the
    site's own profile wins.

    Raises:
        ConfigError: there is no profile of that name, or two of the site's match equally well.
    """
    profile = _best(board, profiles) if wanted == AUTO else find(profiles, wanted)
    obstacle = _obstacle(board, profile)
    if obstacle:
        return Choice(profile, supported=False, reason=obstacle)
    if profile is None:
        what = f"soc {board.soc}, architecture {board.arch}" if board.soc else "nothing that tells was found"
        where = f"write one in {SITE_FOLDER}, or set hardware.profile to one of `edge-agent profile list`"
        return Choice(None, supported=False, reason=f"no hardware profile fits this board ({what}); {where}.")
    why = _why(board, profile) if wanted == AUTO else "chosen by name"
    return Choice(profile, supported=True, reason=why)


def _best(board: Board, profiles: Mapping[str, Profile]) -> Profile | None:
    scores = {name: score for name, profile in profiles.items() if (score := _score(board, profile))}
    if not scores:
        return None
    top = max(scores.values())
    best = [name for name, score in scores.items() if score == top]
    if len(best) > 1:
        raise ConfigError(
            f"the hardware profiles {' and '.join(sorted(best))} match this board equally well; "
            "make one of them more specific, or set hardware.profile to one of them"
        )
    return profiles[best[0]]


def _score(board: Board, profile: Profile) -> tuple[int, int, int, bool] | None:
    """How well the profile fits, or None where it does not; the greater the better."""
    match = profile.match
    if not board.cpu_features.issuperset(match.cpu_features):
        return None
    module = max((len(wanted) for wanted, _ in _modules(board, match)), default=0)
    kind = 3 if module else 2 if board.soc in match.socs else 1 if board.arch in match.arch else 0
    return (kind, module, len(match.cpu_features), profile.site) if kind else None


def _modules(board: Board, match: Match) -> list[tuple[str, str]]:
    """Each module of the profile that the board has, with the board's own token for it."""
    pairs = itertools.product(match.modules, tokens(board))
    return [(wanted, token) for wanted, token in pairs if token == wanted or token.startswith(f"{wanted}-")]


def _why(board: Board, profile: Profile) -> str:
    modules = _modules(board, profile.match)
    if modules:
        return f"matches the module {modules[0][1]}"
    return f"matches the SoC {board.soc}" if board.soc in profile.match.socs else f"matches {board.arch}"


def _obstacle(board: Board, profile: Profile | None) -> str | None:
    """Why the board cannot be served with this profile, and what would work; None where nothing is in the way."""
    if profile and not profile.supported:
        return f"{profile.reason} {profile.advice}"
    if board.bits != WORD_BITS:
        return (
            f"this system is {board.bits}-bit, and the inference engines (ai-edge-litert, onnxruntime, TensorRT) come "
            "for 64-bit systems only. Install a 64-bit system, such as Raspberry Pi OS (64-bit) on a Raspberry Pi "
            "Zero 2 W, 3, 4 or 5; older models cannot run one."
        )
    if profile and profile.min_jetpack and board.jetpack and board.jetpack < profile.min_jetpack:
        python = _PYTHON_OF_JETPACK.get(board.jetpack)
        with_python = f" ends at Python {python}, and edge-agent needs 3.10" if python else " is too old"
        return (
            f"JetPack {board.jetpack} (L4T {board.l4t}){with_python}. The {board.board} itself can be served: "
            f"flash JetPack {profile.min_jetpack} or later."
        )
    return None


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from None


def _problems(error: ValidationError) -> Iterator[str]:
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"is not a key of a profile{_suggestion(item['loc'])}"
        elif item["type"] == "missing":
            message = "is missing"
        elif not isinstance(item["input"], (dict, BaseModel)):
            message = f"{message[:1].lower()}{message[1:]}, not {str(item['input'])[:80]!r}"
        yield f"{key}: {message}" if key else message


def _suggestion(loc: tuple[Any, ...]) -> str:
    tables: dict[Any, type[BaseModel]] = {
        "match": Match,
        "capture": Capture,
        "thermal": Thermal,
        "budget": Budget,
        "tensorrt": TensorRT,
        "power": Power,
        "scheduling": SchedulingTable,
    }
    table = tables.get(loc[0], Profile) if len(loc) > 1 else Profile
    known = [name for name in table.model_fields if name not in _SET_BY_THE_LOADER]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; it may have {', '.join(known)}"
