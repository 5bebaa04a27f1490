"""The report of a run on a GPU: what it ran on, each test's outcome, and the numbers that the tests told."""

import json
import platform
import sys
import time
from importlib import metadata
from typing import Any

PACKAGES = ("edge-agent", "numpy", "onnxruntime", "opencv-python-headless", "pycuda", "cuda-bindings", "ai-edge-litert")


class Report:
    """Collects what pytest reports; `record_property(words, value)` in a test is a number of it."""

    def __init__(self, is_rehearsal):
        self._is_rehearsal, self._results = is_rehearsal, []

    def take(self, result):
        """One phase of one test: the call, or whatever went wrong before and after it."""
        if result.when == "call" or result.outcome != "passed":
            self._results.append(
                {
                    "test": result.nodeid.rpartition("::")[2],
                    "outcome": result.outcome,
                    "seconds": round(result.duration, 2),
                    "numbers": dict(result.user_properties),
                    "reason": reason_of(result),
                }
            )

    def write(self, folder):
        """`report.json` and `report.md`."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"facts": facts(is_rehearsal=self._is_rehearsal), "results": self._results}
        (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(as_markdown(content), encoding="utf-8")


def reason_of(result):
    """Why a test did not pass, in the words of what was raised."""
    if result.skipped:
        return str(result.longrepr[2])
    crash = getattr(result.longrepr, "reprcrash", None)
    return str(crash.message if crash else result.longrepr or "")[:2000]


def facts(*, is_rehearsal) -> dict[str, Any]:
    """When, on what and with what."""
    from benchmarks.tensorrt import versions

    return {
        **({"NOT A GPU": "a rehearsal: pretended driver, stand-in for TensorRT"} if is_rehearsal else {}),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.machine()}, Linux {platform.release()}",
        "python": sys.version.split()[0],
        **versions(),
        **{package: version for package in PACKAGES if (version := _version(package))},
    }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def as_markdown(content):
    lines = ["# Tests on a GPU", ""]
    lines += [f"- {name}: {value}" for name, value in content["facts"].items()]
    lines += ["", "| test | outcome | seconds | numbers |", "|---|---|---|---|"]
    for result in content["results"]:
        numbers = "; ".join(f"{name}: {value}" for name, value in result["numbers"].items()) or result["reason"][:400]
        test = result["test"].removeprefix("test_").replace("_", " ")
        lines.append(
            f"| {test} | {result['outcome']} | {result['seconds']} | {' '.join(numbers.replace('|', '/').split())} |"
        )
    return "\n".join(lines) + "\n"
