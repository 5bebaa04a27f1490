import threading
import time
import weakref

import numpy as np
import pytest

from edge_agent.core.datatypes import Later
from edge_agent.errors import BadFrameError

WHOLE, HALF = np.zeros((480, 640, 3), np.uint8), np.zeros((240, 320, 3), np.uint8)


def later(size=(640, 480), *, has_half=True):
    return Later(lambda: WHOLE, size, (lambda: HALF) if has_half else None)


def test_a_half_is_given_where_it_is_large_enough():
    picture = later()
    assert picture.at_least((320, 240)) == (HALF, 2)


@pytest.mark.parametrize(
    ("picture", "least"),
    [
        (later(), (321, 10)),
        (later(), (10, 241)),
        (later((641, 480)), (10, 10)),
        (later((640, 481)), (10, 10)),
        (later(has_half=False), (10, 10)),
    ],
    ids=["too narrow", "too low", "odd width", "odd height", "none to be had"],
)
def test_the_whole_is_given_where_no_half_fits(picture, least):
    image, shrunk = picture.at_least(least)
    assert image is WHOLE
    assert shrunk == 1


def test_the_whole_is_given_where_it_was_made_already():
    picture = later()
    assert picture.at_least((10, 10))[1] == 2
    assert picture.image is WHOLE
    assert picture.at_least((10, 10)) == (WHOLE, 1)


def test_what_it_was_made_of_is_let_go():
    class Bytes:
        """Can be watched."""

    data = Bytes()
    gone = weakref.ref(data)
    picture = Later(lambda data=data: WHOLE if data else HALF, (640, 480))
    del data
    assert gone() is not None
    assert picture.image is picture.image
    assert gone() is None


def test_one_that_is_none_says_so_each_time():
    def fail():
        raise BadFrameError("no picture")

    picture = Later(fail, (640, 480), fail)
    for _ in range(2):
        with pytest.raises(BadFrameError):
            _ = picture.image
        with pytest.raises(BadFrameError):
            picture.at_least((10, 10))


def test_two_threads_that_ask_get_the_same_and_it_is_made_once():
    made, got = [], []

    def make():
        time.sleep(0.01)
        made.append(WHOLE.copy())
        return made[-1]

    picture = Later(make, (640, 480))
    threads = [threading.Thread(target=lambda: got.append(picture.image)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(image is made[0] for image in got)
