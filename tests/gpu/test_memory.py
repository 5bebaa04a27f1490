"""Nothing grows, and engines do not disturb each other."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cuda import look
from tests.gpu.engines import backend_of, noise, outputs_on

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
MB = 1 << 20
WARM_UP = 0.1  # of all runs


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def test_memory_does_not_grow_over_many_runs(build, model, runs, record_property):
    with backend_of(build(model, "fp16").path) as backend:
        noise(backend)
        for _ in range(int(runs * WARM_UP)):
            backend.infer()
        host_mb, free_mb = resident_mb(), backend._cuda.memory_mb()[0]
        for _ in range(runs):
            backend.infer()
        grown_mb, taken_mb = resident_mb() - host_mb, free_mb - backend._cuda.memory_mb()[0]

    record_property(f"grown over {runs} runs", f"{grown_mb:.2f} MB of the process, {taken_mb:.2f} MB of the GPU")
    assert grown_mb <= 1
    assert taken_mb <= 1 or look().integrated  # there it is everybody's memory


def test_opening_and_closing_gives_everything_back(build, record_property):
    path = build("bottles", "fp16").path
    free = []
    for _ in range(5):
        with backend_of(path) as backend:
            backend.infer()
            free.append(backend._cuda.memory_mb()[0])

    record_property("GPU memory free with one engine open, first to last", f"{free[1]:.1f} to {free[-1]:.1f} MB")
    assert free[1] - free[-1] <= 2 or look().integrated


def test_two_engines_in_one_thread_do_not_disturb_each_other(build, runs):
    with ExitStack() as stack:
        one = stack.enter_context(backend_of(build("yolox", "fp32").path))
        other = stack.enter_context(backend_of(build("bottles", "fp16").path))
        pictures = noise(one), noise(other)
        alone = outputs_on(one, pictures[0]), outputs_on(other, pictures[1])
        for _ in range(max(runs // 100, 2)):
            assert alike(outputs_on(one, pictures[0]), alone[0])
            assert alike(outputs_on(other, pictures[1]), alone[1])
        one.close()
        assert alike(outputs_on(other, pictures[1]), alone[1])


def test_two_engines_in_two_threads_do_not_disturb_each_other(build, runs):
    failures = []

    def work(path):
        try:
            with backend_of(path) as backend:
                picture = noise(backend)
                alone = outputs_on(backend, picture)
                if not all(alike(outputs_on(backend, picture), alone) for _ in range(max(runs // 20, 2))):
                    failures.append(f"{path.name} gave something else")
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(repr(error))

    paths = build("yolox", "fp16").path, build("bottles", "fp32").path
    threads = [threading.Thread(target=work, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def alike(one, other):
    return all(np.allclose(first, second, rtol=1e-3, atol=1e-3) for first, second in zip(one, other, strict=True))
