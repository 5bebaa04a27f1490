import pytest

from edge_agent.cuda import Arguments, CudaError
from tests.cuda import kernels


@pytest.fixture
def adding(driver, session):
    kernels.put_in_place(driver)
    memory = session.host(1000)
    memory.array[:] = 1
    arguments = Arguments(kernels.Add(to=memory.device_ptr, nbytes=memory.nbytes, term=4))
    return session.kernel(kernels.PTX, "add"), memory, arguments


def test_a_kernel_gets_its_arguments_grid_and_block(session, adding):
    kernel, memory, arguments = adding
    session.launch(kernel, (3, 1, 1), (256, 1, 1), arguments)
    session.wait()
    assert memory.array[:768].tolist() == [5] * 768
    assert memory.array[768:].tolist() == [1] * 232


def test_arguments_are_those_at_the_launch(session, adding):
    kernel, memory, arguments = adding
    session.launch(kernel, (4, 1, 1), (256, 1, 1), arguments)
    arguments.values.term = 10
    session.launch(kernel, (4, 1, 1), (256, 1, 1), arguments)
    session.wait()
    assert memory.array.tolist() == [15] * 1000


def test_a_graph_keeps_the_arguments_of_its_capture(session, adding):
    kernel, memory, arguments = adding
    graph = session.capture(lambda: session.launch(kernel, (4, 1, 1), (256, 1, 1), arguments))
    arguments.values.term = 100
    graph.launch()
    graph.launch()
    session.wait()
    assert memory.array.tolist() == [9] * 1000


def test_a_grid_that_cannot_be_is_an_error(session, adding):
    kernel, _, arguments = adding
    with pytest.raises(CudaError, match=r"CUDA_ERROR_INVALID_VALUE \(1\): invalid argument, in cuLaunchKernel"):
        session.launch(kernel, (0, 1, 1), (256, 1, 1), arguments)


def test_a_text_that_is_no_ptx_is_an_error(session):
    with pytest.raises(CudaError, match=r"CUDA_ERROR_INVALID_PTX \(218\)"):
        session.kernel(b"int main(void) {}", "main")


def test_a_kernel_that_the_ptx_lacks_is_an_error_and_leaves_nothing(driver, session):
    kernels.put_in_place(driver)
    with pytest.raises(
        CudaError, match=r"CUDA_ERROR_NOT_FOUND \(500\): named symbol not found, in cuModuleGetFunction"
    ):
        session.kernel(kernels.PTX, "subtract")
    assert driver.pretended_live_of(b"module") == 0


def test_ptx_for_a_newer_gpu_is_an_error(driver, session):
    driver.pretended_compute(62)
    with pytest.raises(CudaError, match=r"CUDA_ERROR_NO_BINARY_FOR_GPU \(209\)"):
        session.kernel(kernels.PTX, "add")


@pytest.mark.parametrize(("version", "driver_version", "fits"), [("8.5", 12060, True), ("8.8", 12060, False)])
def test_ptx_of_a_newer_toolkit_than_the_driver_is_an_error(driver, session, version, driver_version, fits):
    kernels.put_in_place(driver)
    driver.pretended_driver(driver_version)
    ptx = kernels.PTX.replace(b"7.0", version.encode())
    if fits:
        session.kernel(ptx, "add")
        return
    with pytest.raises(CudaError, match=r"CUDA_ERROR_UNSUPPORTED_PTX_VERSION \(222\)"):
        session.kernel(ptx, "add")


def test_a_released_kernel_is_given_back_and_refuses_to_launch(driver, session, adding):
    kernel, _, arguments = adding
    session.release(kernel)
    assert driver.pretended_live_of(b"module") == 0
    with pytest.raises(RuntimeError, match="Kernel was released"):
        session.launch(kernel, (1, 1, 1), (1, 1, 1), arguments)


def test_launches_allocate_nothing_in_the_driver(driver, session, adding):
    kernel, _, arguments = adding
    live = driver.pretended_live()
    for _ in range(50):
        session.launch(kernel, (4, 1, 1), (256, 1, 1), arguments)
    session.wait()
    assert driver.pretended_live() == live
