"""The demo's line in lockstep: how good the verdicts are, whatever the machine does meanwhile."""

from edge_agent.app.lockstep import lockstep
from edge_agent.app.road import make_rules
from edge_agent.app.score import CameraScorer, Scorer
from tests.app.test_lockstep import ACROSS, BUNDLED, CRACKS, bottles, loaded

FAULTS = """
[[cameras.faults]]
kind = "burst"
at_s = 1.0
for_s = 2.0

[[cameras.faults]]
kind = "belt_stop"
at_s = 5.0
for_s = 0.5
"""


def test_each_part_gets_one_verdict_and_a_right_one_where_parts_touch_and_the_belt_stops(tmp_path):
    line = {"trigger": ACROSS.format(part="bottle"), "fps": 20, "width": 1280, "height": 720, "parts": 14, "seed": 3}
    truth = tmp_path / "truth.jsonl"
    config = loaded(tmp_path, bottles(f'truth = "{truth}"{FAULTS}', rules=CRACKS, **line), model=BUNDLED, more="")
    scorer = Scorer({"top": CameraScorer(make_rules(config.config.cameras[0]))}, deadline_ms=150, valid_ms=600)
    for message in lockstep(config, session="s"):
        if "/verdict/" in message.topic:
            scorer.add_verdict(message.payload)
    for text in truth.read_text().splitlines():
        scorer.cameras["top"].truth.add(text)
    sheet = scorer.sheet(has_arm=False)
    assert (sheet.parts, sheet.right, sheet.twice, sheet.extra) == (14, 14, 0, 0)
    assert sheet.belt_stops == 1
