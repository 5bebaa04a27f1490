import threading
from collections import deque

import numpy as np
import pytest

from edge_agent.core.pool import SPARE, WINDOW, Pool, read_only

SHAPE = (30, 40, 3)


def address(array):
    return array.__array_interface__["data"][0]


def test_what_was_let_go_is_handed_out_again():
    pool = Pool()
    first = address(pool.take(SHAPE))
    assert address(pool.take(SHAPE)) == first


VIEWS = {
    "the array": lambda array: array,
    "a view that cannot be written": read_only,
    "a part": lambda array: array[3:7, 2:9, 1],
    "a part of a part": lambda array: read_only(array)[::2][1:],
    "bytes": memoryview,
    "another type": lambda array: array.reshape(-1).view(np.int8),
}


@pytest.mark.parametrize("how", VIEWS)
def test_what_is_held_is_not_handed_out_again(how):
    pool = Pool()
    held = VIEWS[how](pool.take(SHAPE))
    other = pool.take(SHAPE)
    assert not np.shares_memory(np.asarray(held), other)
    del other
    others = [pool.take(SHAPE) for _ in range(5)]
    assert not any(np.shares_memory(np.asarray(held), other) for other in others)


def test_what_a_burst_needed_is_given_back_after_a_while():
    pool = Pool()
    held = [pool.take(SHAPE) for _ in range(10)]
    held.clear()
    for _ in range(WINDOW):
        held = pool.take(SHAPE)
    assert len(pool._arrays) == 10
    for _ in range(WINDOW):
        held = pool.take(SHAPE)
    assert len(pool._arrays) == 1 + SPARE
    assert held.shape == SHAPE


def test_how_many_are_held_may_go_up_and_down_at_no_cost():
    pool, held = Pool(), deque()
    for number in range(5 * WINDOW):
        held.append(pool.take(SHAPE))
        while len(held) > 1 + number % 4:
            held.popleft()
    few = len(pool._arrays)
    before = {address(array) for array in pool._arrays}
    for number in range(5 * WINDOW):
        held.append(pool.take(SHAPE))
        while len(held) > 1 + number % 4:
            held.popleft()
    assert len(pool._arrays) == few <= 6
    assert {address(array) for array in pool._arrays} == before


def test_another_shape_is_handed_out_as_asked_and_the_old_ones_go():
    pool = Pool()
    held = pool.take(SHAPE)
    assert pool.take((5, 7)).shape == (5, 7)
    assert len(pool._arrays) == 1
    assert held.shape == SHAPE


def test_nobody_writes_into_a_read_only_view():
    with pytest.raises(ValueError, match="read-only"):
        read_only(np.zeros(3, np.uint8))[0] = 1


def test_two_threads_never_get_the_same():
    pool, wrong = Pool(), []

    def use(number):
        for _ in range(300):
            mine = pool.take((64,))
            mine[:] = number
            wrong.extend(mine[mine != number])

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
