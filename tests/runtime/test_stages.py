import pytest

from edge_agent.runtime.stages import BOUNDS_MS, NAMES, Durations, Histogram, Stages


def test_a_duration_counts_in_each_bucket_whose_bound_it_does_not_exceed():
    histogram = Histogram()
    for ms in (0.4, 1.0, 1.1, 5000):
        histogram.add(ms)
    counted = dict(zip([*BOUNDS_MS, None], histogram.up_to(), strict=True))
    assert (counted[0.5], counted[1.0], counted[2.5], counted[2000.0], counted[None]) == (1, 2, 3, 3, 4)
    assert histogram.sum_ms == pytest.approx(5002.5)


def test_every_stage_of_a_frame_is_counted():
    durations = Durations()
    durations.add(Stages(queue=1, preprocess=2, infer=30, decode=3, decide=4, total=40))
    durations.add(Stages(queue=1, preprocess=2, infer=30, decode=3, decide=4, total=40))
    assert {name: durations.of[name].sum_ms for name in NAMES} == {
        "queue": 2,
        "preprocess": 4,
        "infer": 60,
        "decode": 6,
        "decide": 8,
        "total": 80,
    }
    assert all(histogram.up_to()[-1] == 2 for histogram in durations.of.values())
