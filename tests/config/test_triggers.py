import pytest

from edge_agent.config import ConfigProblemsError, load
from tests.config.documents import changed, line_of, load_text

FRAME = '  kind = "frame"\n'
MQTT = ('[mqtt]\nhost = "localhost"\n\n  [mqtt.tls]\n  ca = "ca.pem"\n', "[stdout]\n")


def problem(tmp_path, text):
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(ConfigProblemsError) as caught:
        load(tmp_path / "agent.toml")
    (found,) = caught.value.problems
    return found.line, found.key, found.message


def triggered(*lines, more=()):
    paced = more or [('source = "photos"', 'source = "photos"\nfps = 30')]
    return changed((FRAME, "".join(f"  {line}\n" for line in lines)), *paced)


def test_a_trigger_by_message_needs_no_more_than_its_kind(tmp_path):
    trigger = load_text(tmp_path, triggered('kind = "mqtt"')).config.cameras[0].trigger
    assert (trigger.offset_ms, trigger.window_ms, trigger.ring, trigger.time_tolerance_ms) == (0, 100, 4, 5)


def test_a_trigger_by_an_input_line_needs_the_line(tmp_path):
    trigger = load_text(tmp_path, triggered('kind = "gpio"', 'line = "GPIO17"')).config.cameras[0].trigger
    assert (str(trigger.chip), trigger.line, trigger.edge, trigger.bias) == (
        "/dev/gpiochip0",
        "GPIO17",
        "rising",
        "as_is",
    )
    text = triggered('kind = "gpio"')
    assert problem(tmp_path, text) == (line_of(text, 'kind = "gpio"') - 1, "cameras[0].trigger.line", "is missing")


def test_a_part_that_reaches_the_camera_after_its_verdict_is_due_is_refused(tmp_path):
    text = triggered('kind = "mqtt"', "offset_ms = 120")
    message = "with the time to the next picture must be below deadline_ms (150), which counts from the trigger too"
    assert problem(tmp_path, text) == (line_of(text, "offset_ms"), "cameras[0].trigger.offset_ms", message)


def test_a_window_without_a_picture_is_refused(tmp_path):
    text = triggered('kind = "mqtt"', more=[('source = "photos"', 'source = "photos"\nfps = 8')])
    message = "is shorter than the 125 ms between two pictures of this camera: most parts would have no frame"
    assert problem(tmp_path, text)[1:] == ("cameras[0].trigger.window_ms", message)


def test_a_replay_that_waits_for_the_line_cannot_be_triggered(tmp_path):
    text = triggered('kind = "mqtt"', more=[('source = "photos"', 'source = "photos"\nfps = 0')])
    message = "with a trigger from outside a replay needs a rate: 0 shows everything at once"
    assert problem(tmp_path, text) == (line_of(text, "fps = 0"), "cameras[0].fps", message)


@pytest.mark.parametrize(
    ("change", "key"),
    [((FRAME, '  kind = "mqtt"\n'), "cameras[0].trigger.kind"), (("[[cameras]]", "[ack]\n[[cameras]]"), "ack")],
)
def test_what_comes_in_needs_a_broker(tmp_path, change, key):
    text = changed(change, MQTT, ('source = "photos"', 'source = "photos"\nfps = 30'))
    assert problem(tmp_path, text)[1:] == (key, "needs an [mqtt] table: what comes in comes by MQTT")


def test_a_part_that_reaches_the_arm_when_its_verdict_is_stale_is_refused(tmp_path):
    text = changed(("  [[cameras.rules]]", "  [cameras.fire]\n  after_ms = 600\n\n  [[cameras.rules]]"))
    message = "must be below valid_ms (600): the verdict would be stale when the part is there"
    assert problem(tmp_path, text) == (line_of(text, "after_ms"), "cameras[0].fire.after_ms", message)
