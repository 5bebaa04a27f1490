import math

import pytest

from edge_agent.app.bench.figures import Block, Sending, range_of, rate, spread, stage_times
from edge_agent.core.parts import Decision, Part
from edge_agent.runtime.forms import Latency, Sent
from edge_agent.runtime.stages import Stages

MS = 1_000_000


def sending(captured_ms, sent_ms, *, infer=5.0, total=7.0):
    part = Part("frame", 1, captured_ms * MS, 10**12, 10**13)
    latency = Latency(queue=0.5, preprocess=0.5, infer=infer, decide=1.0, total=total)
    return Sending(sent_ms * MS, 0, Sent(part, Decision("pass"), 1, True, captured_ms * MS, latency))


def test_added_is_the_frame_to_the_socket_without_its_own_engine_run():
    assert sending(100, 108).added_ms == pytest.approx(3.0)


def test_a_spread_has_the_percentiles_of_its_values():
    told = spread([float(one) for one in range(1, 102)])
    assert (told.n, told.min, told.p50, told.p90, told.p99, told.max) == (101, 1.0, 51.0, 91.0, 100.0, 101.0)


def test_of_no_values_there_is_no_spread_and_no_range():
    assert spread([]) is None
    assert range_of([]) is None


def test_what_is_not_known_does_not_count():
    told = range_of([math.nan, 2.0, 4.0])
    assert (told.n, told.median, told.low, told.high) == (2, 3.0, 2.0, 4.0)


def test_a_rate_counts_the_gaps_between_times():
    assert rate([0, 250 * MS, 500 * MS]) == pytest.approx(4.0)


def test_one_time_has_no_rate():
    assert math.isnan(rate([7]))


def test_the_stages_of_a_frame_add_up_to_its_way_to_the_socket():
    stages = Stages(queue=0.5, preprocess=0.5, infer=5.0, decode=0.4, decide=2.6, total=9.0)
    told = stage_times([Block([sending(100, 108)], [stages], {})])
    road = sum(told[name].p50 for name in ("queue", "preprocess", "infer", "decode", "decide", "send"))
    assert road == pytest.approx(told["whole"].p50) == pytest.approx(8.0)
    assert told["record"].p50 == pytest.approx(1.0)


def test_a_block_where_a_frame_had_no_verdict_says_nothing_of_stages():
    stages = Stages(0.5, 0.5, 5.0, 0.4, 2.6, 9.0)
    assert stage_times([Block([sending(100, 108)], [stages, stages], {})])["whole"] is None
