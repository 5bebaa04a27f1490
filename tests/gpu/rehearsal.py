"""Runs the tests of the GPU without one: `scripts/test-gpu --rehearse VERSION` comes here."""

import os
import sys

from tests import fake_tensorrt, pretended_cuda
from tests.backends.tensorrt import kernels
from tests.fixtures import REPO

RUNS = "20"
MEMORY_MB = 256


def environment(version):
    """With the pretended driver, the agent's kernels for it, and the stand-in for TensorRT of that version."""
    pretended = pretended_cuda.environment(memory_mb=MEMORY_MB, integrated=0, kernels=kernels.build())
    own = {"EDGE_AGENT_GPU": "rehearsal", "PYTHON": sys.executable}
    return {"EDGE_AGENT_GPU_RUNS": RUNS, **pretended, **fake_tensorrt.environment(version), **own}


if __name__ == "__main__":
    version, *words = sys.argv[1:]
    if version not in fake_tensorrt.VERSIONS:
        sys.exit(f"there is a stand-in for TensorRT {', '.join(fake_tensorrt.VERSIONS)}, not for {version}")
    os.environ.update(environment(version))
    script = str(REPO / "scripts" / "test-gpu")
    os.execv(script, [script, "--report", os.environ["EDGE_AGENT_GPU_REPORT"], *words])  # noqa: S606 - our own script
