import pytest

from edge_agent.cuda import CudaError
from edge_agent.cuda.failures import check, code_of
from edge_agent.errors import EdgeAgentError


def test_success_raises_nothing(driver):
    check("cuInit", 0)


def test_a_failure_names_the_call_and_the_drivers_words(driver):
    with pytest.raises(
        CudaError, match=r"^CUDA_ERROR_NO_DEVICE \(100\): no CUDA-capable device is detected, in cuInit$"
    ):
        check("cuInit", 100)


def test_a_code_without_words_is_told_by_its_number(driver):
    assert str(CudaError("cuInit", 12345)) == "CUDA_ERROR (12345): the driver has no words for it, in cuInit"


def test_the_code_is_found_by_the_drivers_words(driver):
    assert code_of("out of memory") == 2
    assert code_of("words that no driver has") == 999


def test_it_is_an_error_of_the_project_and_a_runtime_error(driver):
    assert issubclass(CudaError, EdgeAgentError)
    assert issubclass(CudaError, RuntimeError)
