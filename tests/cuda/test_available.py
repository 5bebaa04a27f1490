import importlib.util
import os
import subprocess
import sys

import pytest

from edge_agent import cuda
from edge_agent.errors import UnavailableError
from tests import pretended_cuda
from tests.cuda.conftest import LIBRARIES


def answer(program, environment):
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


AVAILABLE = "from edge_agent.cuda import available; print(available())"
WITHOUT = "import sys; sys.modules['pycuda'] = sys.modules['cuda'] = None; "


def test_with_a_driver_and_a_library_cuda_is_available(driver):
    assert cuda.available() is None


def test_a_child_process_can_have_the_pretended_driver():
    program = "from edge_agent import cuda; print(cuda.look().compute, cuda.look().driver)"
    assert answer(program, pretended_cuda.environment(compute=72, driver=11080)) == "(7, 2) 11080"


def test_a_child_process_can_be_given_a_failure():
    program = "from edge_agent import cuda\ntry: cuda.look()\nexcept cuda.CudaError as error: print(error)"
    expected = "CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected, in cuInit"
    assert answer(program, pretended_cuda.environment(fail="cuInit=100")) == expected


def test_without_a_driver_the_answer_says_so():
    said = answer(AVAILABLE, {**os.environ})
    if said == "None":
        pytest.skip("this machine has an NVIDIA driver")
    assert said.startswith("CUDA needs the driver of an NVIDIA GPU: libcuda.so.1")


def test_without_a_library_the_answer_says_what_to_install():
    said = answer(WITHOUT + AVAILABLE, pretended_cuda.environment())
    assert said.startswith("cuda-bindings: ")
    assert said.endswith("pip install 'cuda-bindings>=12.9.1,<13', or for CUDA 13 'cuda-bindings>=13'")


def test_a_library_that_is_asked_for_and_not_there_is_named(driver):
    if importlib.util.find_spec("pycuda"):
        pytest.skip("pycuda is installed")
    with pytest.raises(UnavailableError, match=r"^pycuda: No module named 'pycuda'.*: pip install 'pycuda>="):
        cuda.open_cuda("pycuda")


def test_nothing_is_imported_before_it_is_needed():
    program = "import edge_agent.cuda, sys; print({'cuda.bindings', 'pycuda'} & set(sys.modules))"
    assert answer(program, {**os.environ}) == "set()"


def test_all_that_is_tested_of_cuda_bindings_is_tested_of_pycuda():
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("pycuda is not installed; it is compiled with the CUDA toolkit: tests/cuda ran without it")
    assert LIBRARIES == ["cuda-bindings", "pycuda"]


def test_pycuda_comes_first_where_both_are_installed(driver):
    session = cuda.open_cuda()
    session.close()
    first = "pycuda" if importlib.util.find_spec("pycuda") else "cuda-bindings"
    assert session.name.startswith(first)
