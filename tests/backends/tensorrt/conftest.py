"""TensorRT without a GPU: the stand-in module on the pretended driver."""

import pytest

from tests import fake_tensorrt, pretended_cuda


@pytest.fixture
def driver():
    """The pretended driver, as new. Whatever a test opens on it must be closed at its end."""
    driver = pretended_cuda.load()
    driver.pretended_reset()
    driver.cuInit(0)
    before = driver.pretended_live()  # not 0 after a test that failed
    yield driver
    assert driver.pretended_live() == before, "something was not given back"


@pytest.fixture
def version():
    """Of the stand-in; tests that want another, or all, have a parameter of this name."""
    return "10.3.0"


@pytest.fixture
def tensorrt(version, driver, monkeypatch):
    """The stand-in, as `import tensorrt`."""
    pytest.importorskip("onnxruntime", reason="the stand-in for TensorRT runs models by it")
    return fake_tensorrt.put_in_place(monkeypatch, version)
