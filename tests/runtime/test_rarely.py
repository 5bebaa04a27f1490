import time

from edge_agent.runtime.rarely import Rarely


def test_the_first_time_is_told_at_once_and_those_soon_after_are_counted():
    rarely = Rarely(every_s=60)
    assert [rarely.now() for _ in range(4)] == [0, None, None, None]


def test_later_one_is_told_with_the_number_of_those_between():
    rarely = Rarely(every_s=0.5)
    assert [rarely.now() for _ in range(3)] == [0, None, None]
    time.sleep(0.51)
    assert rarely.now() == 2
    time.sleep(0.51)
    assert rarely.now() == 0
