"""What the backend adds to the bare engine, what the graph and the kind of memory give, and what a frame takes."""

import pytest

from benchmarks.tensorrt import measure, stages
from tests.gpu.engines import LABELS, photos

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]
MOST_ADDED_MS = 0.15


def hurried(is_rehearsal):
    """A rehearsal judges no time."""
    return {"rounds": 1, "warm_up": 1} if is_rehearsal else {}


@pytest.mark.parametrize("name", ["yolox", "bottles"])
def test_the_backend_adds_little_to_the_bare_engine(build, name, precision, runs, is_rehearsal, record_property):
    spreads, chosen = measure(build(name, precision).path, runs // 10, **hurried(is_rehearsal))

    memory = chosen.split(", ")[1]
    added_ms = spreads[chosen].p50 - spreads[f"bare, {memory}"].p50
    for way, spread in spreads.items():
        record_property(f"{way}, p50/p99/max ms", str(spread))
    record_property("chosen", chosen)
    record_property(f"added to the bare engine in {memory} memory, p50", f"{added_ms:.3f} ms, allowed {MOST_ADDED_MS}")
    assert {"backend, mapped, graph", "backend, copied, graph"} <= spreads.keys(), "no graph was made"
    assert is_rehearsal or added_ms <= MOST_ADDED_MS


@pytest.mark.parametrize("name", ["yolox", "bottles"])
def test_a_frame_has_known_stages(build, name, precision, runs, is_rehearsal, record_property):
    pytest.importorskip("cv2")
    path, rounds = build(name, precision).path, max(runs // 20, 3)
    split = stages(path, photos(name)[0], LABELS.get(name), rounds, warm_up=1 if is_rehearsal else 20)

    for stage, spread in split.items():
        record_property(f"{stage}, p50/p99/max ms", str(spread))
    assert set(split) == {"preprocess", "infer", "decode", "frame"}
