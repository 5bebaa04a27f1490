"""The environment that ultralytics and the plots have for themselves: made by pip, kept in the user's cache."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.rig import BenchmarkError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SHARED = ("ai-edge-litert", "onnxruntime")  # in the versions that are here: both must run the same engine
STAMP = "requirements.sha256"
INSTALL_S = 1800.0
LAST_LINES = 5


def default_folder() -> Path:
    """One for each Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edge-agent-benchmarks" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def require(folder: Path) -> Path:
    """The environment's Python; made or renewed where that is needed, which takes minutes and a connection to PyPI.

    Raises:
        BenchmarkError: pip could not install it.
    """
    python, stamp = folder / "bin" / "python", folder / STAMP
    if python.exists() and stamp.exists() and stamp.read_text() == digest():
        return python
    print(f"installing ultralytics into {folder}; this takes minutes", file=sys.stderr)
    _do([sys.executable, "-m", "venv", folder])
    _do([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS, *shared()])
    stamp.write_text(digest())
    return python


def shared() -> list[str]:
    """Requirements that are ours, too."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in SHARED]


def digest() -> str:
    """Of all requirements."""
    return hashlib.sha256(REQUIREMENTS.read_bytes() + " ".join(shared()).encode()).hexdigest()


def _do(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        last = "\n  ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        raise BenchmarkError(f"{' '.join(map(str, command))} failed; its last words:\n  {last}")


def versions(python: Path) -> dict[str, str]:
    """Of what is compared and what it runs on."""
    names = ("ultralytics", "torch", "opencv-python", "numpy", *SHARED)
    asked = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = json.loads(said)
    return found
