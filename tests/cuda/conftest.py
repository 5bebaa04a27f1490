"""Both libraries for CUDA, against the pretended driver: what is true of one is true of the other."""

import ctypes
import importlib.util

import pytest

from edge_agent.cuda import open_cuda
from tests import pretended_cuda

LIBRARIES = ["cuda-bindings", "pycuda"][: 1 + (importlib.util.find_spec("pycuda") is not None)]


@pytest.fixture
def driver():
    """The pretended driver, as new; at the end nothing may be left in it."""
    driver = pretended_cuda.load()
    driver.pretended_reset()
    before = driver.pretended_live(), driver.pretended_stack_depth()
    yield driver
    assert (driver.pretended_live(), driver.pretended_stack_depth()) == before


@pytest.fixture(params=LIBRARIES)
def library(request, driver):
    return request.param


@pytest.fixture
def session(library):
    session = open_cuda(library)
    yield session
    session.close()


@pytest.fixture
def calls(driver):
    """The calls of the driver so far, by name, in order."""

    def calls():
        text = ctypes.create_string_buffer(1 << 16)
        driver.pretended_trace(text, len(text))
        return text.value.decode().split()

    return calls
