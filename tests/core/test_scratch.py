from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from edge_agent.core.eyesight import look_at
from edge_agent.core.scratch import LENGTH, ROWS, scratch
from tests.scenes import scene, seen


def test_it_is_the_same_memory_time_and_again():
    assert scratch() is scratch()
    assert (scratch().shape, scratch().dtype) == ((ROWS, LENGTH), np.float32)
    assert all(row.ctypes.data % 64 == 0 for row in scratch())


def test_each_thread_has_its_own():
    with ThreadPoolExecutor(1) as other:
        assert not np.shares_memory(scratch(), other.submit(scratch).result())


def test_two_threads_that_look_at_once_see_what_each_would_see_alone():
    pictures = [seen(scene(1)), seen(scene(2))]
    alone = [look_at(picture) for picture in pictures]
    together = Barrier(2)

    def look(picture):
        together.wait()
        return [look_at(picture) for _ in range(20)]

    with ThreadPoolExecutor(2) as threads:
        for looks, wanted in zip(threads.map(look, pictures), alone, strict=True):
            for seen_now in looks:
                assert seen_now.same_as(wanted)
                assert (seen_now.structure, seen_now.sharpness) == (wanted.structure, wanted.sharpness)
