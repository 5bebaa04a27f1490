"""Says why tests of the GPU are skipped, builds the engines that they share, and writes the report.

EDGE_AGENT_GPU=required     no GPU is an error, not a reason to skip (scripts/test-gpu)
EDGE_AGENT_GPU=rehearsal    the driver is pretended: all is run, but no time is judged
EDGE_AGENT_GPU_REPORT=DIR   where the report goes
EDGE_AGENT_GPU_RUNS=N       how often engines are run where the usual is 10,000
EDGE_AGENT_GPU_KIT=1        there is neither cuBLAS nor cuDNN: engines do without
"""

import functools
import os
from pathlib import Path

import pytest

from edge_agent import cuda
from edge_agent.app.engine_build import BuildRequest, EngineBuilder
from edge_agent.backends import tensorrt as backend
from edge_agent.errors import EdgeAgentError
from tests import pretended_cuda
from tests.gpu.engines import MODELS
from tests.gpu.report import Report

WISH = os.environ.get("EDGE_AGENT_GPU", "")


@functools.cache
def missing():
    """Why nothing can be run here; None where it can."""
    if pretended_cuda.is_loaded():
        return "the pretended NVIDIA driver is loaded: scripts/test-gpu runs these tests in a process of their own"
    try:
        reason = backend.available()
        if reason is None:
            cuda.look()
    except EdgeAgentError as error:
        return f"no GPU can be used here: {error}"
    return reason


def pytest_sessionstart(session):
    if WISH and missing():
        pytest.exit(missing(), returncode=2)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and missing():
        pytest.skip(missing())


# ------------------------------------------------------------------------------------------------- the report

REPORT = Report(is_rehearsal=WISH == "rehearsal")


def pytest_runtest_logreport(report):
    REPORT.take(report)


def pytest_sessionfinish(session):
    folder = os.environ.get("EDGE_AGENT_GPU_REPORT")
    if folder and not missing():
        REPORT.write(Path(folder))


# ------------------------------------------------------------------------------------------------ what tests use


@pytest.fixture(scope="session")
def is_rehearsal():
    return WISH == "rehearsal"


@pytest.fixture(scope="session")
def runs():
    return int(os.environ.get("EDGE_AGENT_GPU_RUNS", "10000"))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """`build("yolox", "fp16")`: what the builder finished, kept for the next that asks. Others give a folder of their own."""
    shared = tmp_path_factory.mktemp("engines")

    @functools.cache
    def outcome(name, precision, folder):
        without = bool(os.environ.get("EDGE_AGENT_GPU_KIT"))
        request = BuildRequest(MODELS[name], folder, precision, without_libraries=without)
        try:
            return EngineBuilder(request).run(lambda _progress: None)
        except EdgeAgentError as error:  # it takes as long the next time
            return error

    def build(name, precision, folder=shared):
        finished = outcome(name, precision, folder)
        if isinstance(finished, EdgeAgentError):
            raise finished
        return finished

    build.forget = outcome.cache_clear
    return build


@pytest.fixture(params=["yolox", "bottles"])
def model(request):
    return request.param


@pytest.fixture(params=["fp32", "fp16"])
def precision(request):
    return request.param
