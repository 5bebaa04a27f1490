from edge_agent.runtime.allowance import Allowance

S = 10**9


def test_so_many_are_let_through_at_once_and_then_so_many_a_second():
    allowance = Allowance(per_s=200, at_once=400)
    assert sum(allowance.take(0) for _ in range(1000)) == 400
    assert sum(allowance.take(S) for _ in range(1000)) == 200
    assert sum(allowance.take(2 * S + number * S // 1000) for number in range(1000)) == 399


def test_a_long_silence_earns_no_more_than_what_is_let_through_at_once():
    allowance = Allowance(per_s=200, at_once=400)
    allowance.take(0)
    assert sum(allowance.take(3600 * S) for _ in range(1000)) == 400


def test_time_that_goes_back_earns_nothing_and_costs_nothing():
    allowance = Allowance(per_s=1, at_once=2)
    assert allowance.take(10 * S)
    assert allowance.take(0)
    assert not allowance.take(0)
    assert allowance.take(S)
