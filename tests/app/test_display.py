"""What a person sees of a run: made truth and verdicts, drawn without a terminal."""

import io

from rich.console import Console

from edge_agent.app.demo.belt_view import draw_belt
from edge_agent.app.demo.trial import View
from edge_agent.app.display import LiveViewer, PlainViewer, picture, score_table
from edge_agent.app.evidence import action_of, verdict_of
from tests.truths import BARE, CRACKED, S, acted, belt, entered, fault, part, scored, scorer, verdict


def shown(thing, width=100):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(thing)
    return console.file.getvalue()


def drawn(truth, at_s, verdicts=(), columns=128):
    return draw_belt(scorer(truth, verdicts).cameras["top"], int(at_s * S), columns)


def rows(text):
    return text.plain.split("\n")


def test_a_bottle_is_drawn_where_it_is():
    row = rows(drawn([entered(1, 10.0)], 11.0))[4]
    assert row.rstrip("┊ ").strip() == "█" * 14
    middle = row.index("█") + 7
    assert abs(middle - (600 - 75) / 10) <= 1


def test_a_belt_that_runs_to_the_left_is_mirrored():
    left = belt().replace('"right"', '"left"')
    row = rows(drawn([left, entered(1, 10.0)], 11.0))[4]
    assert abs(row.index("█") + 7 - (128 - (600 - 75) / 10)) <= 1


def test_a_bottle_that_has_left_is_drawn_no_more():
    assert "█" not in drawn([entered(1, 10.0)], 14.0).plain


def test_a_missing_cap_and_a_crack_are_to_be_seen():
    plain = drawn([entered(1, 10.0, BARE, ["cap_missing"])], 11.0)
    cracked = drawn([entered(1, 10.0, CRACKED, ["crack"])], 11.0)
    assert "▄" not in plain.plain
    assert "▄" in cracked.plain
    assert "/\\" in cracked.plain


def test_a_bottle_gets_the_colour_and_the_word_of_its_verdict():
    truth = [entered(1, 10.0, CRACKED, ["crack"]), part(1, 11.4, CRACKED, ["crack"])]
    text = drawn(truth, 11.6, [verdict(1, 11.42, "reject")])
    assert "reject✓" in text.plain
    assert any("red" in str(span.style) for span in text.spans)


def test_a_wrong_verdict_is_marked():
    truth = [entered(1, 10.0, CRACKED, ["crack"]), part(1, 11.4, CRACKED, ["crack"])]
    assert "pass✗" in drawn(truth, 11.6, [verdict(1, 11.42)]).plain


def seen(**more):
    truth = [entered(7, 10.0, CRACKED, ["crack"]), part(7, 11.4, CRACKED, ["crack"])]
    said = verdict(1, 11.42, "reject", {"rule": "defect", "label": "crack", "score": 0.931})
    did = acted(1, 11.45, "reject")
    made = scorer([*truth, *more.pop("truth", ())], [said], [did])
    told, action = verdict_of(said), action_of(did)
    return View(made, has_arm=True, recent=[told], actions={action.key: action}, **more)


def test_the_screen_has_the_last_verdicts_with_reasons_truth_and_time():
    text = shown(picture(seen(state="running", elapsed_s=12, seconds=45), 100, 12 * S))
    row = next(line for line in text.split("\n") if "0.93" in line)
    assert row.split() == ["7", "reject", "crack", "0.93", "crack", "right", "30.0", "ms"]
    assert "12 of 45 s   the agent is running" in text


def test_the_screen_names_what_is_wrong_with_the_camera_and_what_the_agent_says():
    view = seen(state="degraded", reasons=["camera_unhealthy:top"], truth=[fault("dark", 11, on=True)])
    text = shown(picture(view, 100, 12 * S))
    assert " dark " in text.split("\n")[0]
    assert "degraded (camera_unhealthy:top)" in text


def test_a_narrow_terminal_is_no_reason_to_fail():
    assert shown(picture(seen(), 20, 12 * S), width=20)


def test_a_terminal_gets_a_live_picture_and_is_given_back():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    viewer = LiveViewer(console)
    viewer.show(seen(state="running"))
    viewer.close()
    viewer.close()
    written = console.file.getvalue()
    assert "crack 0.93" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again


def test_elsewhere_lines_tell_news_once_and_figures_now_and_then():
    lines = []
    viewer = PlainViewer(lines.append)
    faulty = [fault("dark", 11, on=True)]
    for elapsed_s, truth in ((1, ()), (2, faulty), (3, faulty), (6, [*faulty, fault("dark", 12, on=False)])):
        viewer.show(seen(state="running", elapsed_s=elapsed_s, truth=truth))
    assert [line.split(" s  ")[1] for line in lines[:3]] == ["the agent is running", "now: dark", "no more: dark"]
    assert len(lines) == 4
    assert "capture to arm p50 30.0 ms" in lines[3]


def test_the_score_sheet_speaks_of_parts_defects_faults_and_times():
    truth = [part(1, 2, CRACKED, ["crack"]), fault("dark", 4, on=True), fault("dark", 8, on=False)]
    event = {"code": "camera_unhealthy", "data": {"camera": "top", "faults": "dark"}}
    sheet = scored(truth, [verdict(1, 2.02, "reject")], [acted(1, 2.05)], notices=[("event", event, 4.5)])
    text = " ".join(shown(score_table(sheet)).split())
    assert "right │ 1 │ 100.0%" in text
    assert "with crack │ 1 │ 1 judged right" in text
    assert "fault: dark │ noticed after 0.5 s │ dark" in text
    assert "capture to arm │ p50 30.0 ms" in text
