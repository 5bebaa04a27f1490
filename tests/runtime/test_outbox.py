import json
import time
from functools import partial

import pytest

from edge_agent.core.ports import Message
from edge_agent.publishers import mqtt, stdout
from edge_agent.runtime.link import Link
from edge_agent.runtime.outbox import WINDOW, Outbox
from edge_agent.runtime.outbox import outbox as sender
from tests.brokers import Listener, running_broker
from tests.runtime.stations import OUTBOX, Wire, one_after_the_other, wait_for


def numbered(topic, number, padding=0):
    return Message(topic, json.dumps({"n": number, "padding": "x" * padding}).encode(), qos=1)


def waiting(outbox, kind):
    """What waits and is in memory, but for what is in flight."""
    lane = outbox._stock._lanes[kind]
    rows = (*lane.ready, *(row for row in lane.unwritten if row.place == "new"))
    return [json.loads(row.payload)["n"] for row in rows]


def size(outbox):
    return sum(lane.bytes for lane in outbox._stock._lanes.values())


def numbers(messages, topic):
    return [json.loads(message.payload)["n"] for message in messages if message.topic == topic]


@pytest.fixture
def make():
    """`make(open_)`: an outbox on a link; both are started by `start`, and stopped in the end."""
    made = []

    def make(open_, **limits):
        link = Link("records", open_)
        outbox = Outbox(link, **{**OUTBOX, **limits})
        made.append((link, outbox))
        return outbox, partial(start, link, outbox)

    def start(link, outbox):
        link.start()
        outbox.start()

    yield make
    for link, outbox in made:
        if outbox._thread.ident:
            outbox.stop(0)
        link.stop(5)


def test_messages_arrive_in_their_order(make, capfd):
    outbox, start = make(lambda: stdout.create(stdout.Config(), "records"))
    for number in range(300):
        outbox.put("result", numbered(f"result/{number % 2}", number))
    start()
    wait_for(lambda: outbox.waiting() == 0)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith('{"topic"')]
    assert [line["payload"]["n"] for line in lines] == list(range(300))
    assert outbox.counts["delivered"] == 300


def test_events_go_before_results(make):
    wire = Wire()
    outbox, start = make(one_after_the_other(wire))
    for number in range(50):
        outbox.put("result", numbered("result", number))
        outbox.put("event", numbered("event", number))
    start()
    wait_for(lambda: outbox.waiting() == 0)
    assert [message.topic for message in wire.sent] == ["event"] * 50 + ["result"] * 50


def test_when_rows_run_out_the_oldest_results_go_and_are_counted(make):
    outbox, _ = make(one_after_the_other(Wire()), max_rows=10)
    for number in range(5):
        outbox.put("event", numbered("event", number))
    for number in range(20):
        outbox.put("result", numbered("result", number))
    assert waiting(outbox, "result") == list(range(15, 20))
    assert waiting(outbox, "event") == list(range(5))
    assert (outbox.counts["dropped_results"], outbox.counts["dropped_events"]) == (15, 0)


def test_events_go_only_when_there_are_no_results_left(make):
    outbox, _ = make(one_after_the_other(Wire()), max_rows=10)
    outbox.put("result", numbered("result", 0))
    for number in range(12):
        outbox.put("event", numbered("event", number))
    assert waiting(outbox, "event") == list(range(2, 12))
    assert (outbox.counts["dropped_results"], outbox.counts["dropped_events"]) == (1, 2)


def test_when_memory_runs_out_the_oldest_results_go(make):
    outbox, _ = make(one_after_the_other(Wire()), max_mb=0.01)
    for number in range(20):
        outbox.put("result", numbered("result", number, padding=970))
    assert 8 <= outbox.waiting() <= 10
    assert size(outbox) <= 10_000
    assert outbox.waiting() + outbox.counts["dropped_results"] == 20
    assert waiting(outbox, "result")[-1] == 19


def test_what_is_delivered_makes_room_again(make):
    outbox, start = make(one_after_the_other(Wire()), max_mb=0.01)
    start()
    for number in range(20):
        outbox.put("result", numbered("result", number, padding=970))
        wait_for(lambda: outbox.waiting() == 0)
    assert (outbox.counts["delivered"], outbox.counts["dropped_results"], size(outbox)) == (20, 0, 0)


def test_no_more_is_in_flight_than_brokers_allow(make):
    wire = Wire(code=None)
    outbox, start = make(one_after_the_other(wire))
    for number in range(50):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: len(wire.sent) == WINDOW)
    wire.confirm(wire.sent[0].token)
    wait_for(lambda: len(wire.sent) == WINDOW + 1)
    assert outbox.waiting() == 49


def test_what_was_not_confirmed_is_sent_again_in_its_order(make):
    first, second = Wire(code=None), Wire()
    outbox, start = make(one_after_the_other(first, second))
    for number in range(30):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: len(first.sent) == WINDOW)
    for message in (first.sent[0], first.sent[1]):
        first.confirm(message.token)
    wait_for(lambda: outbox.waiting() == 28)
    first.cut()
    wait_for(lambda: outbox.waiting() == 0)
    assert numbers(second.sent, "result") == list(range(2, 30))


def test_events_that_are_taken_back_still_go_before_results(make):
    first, second = Wire(code=None), Wire()
    outbox, start = make(one_after_the_other(first, second))
    for number in range(3):
        outbox.put("event", numbered("event", number))
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: len(first.sent) == 6)
    first.cut()
    wait_for(lambda: outbox.waiting() == 0)
    assert [message.topic for message in second.sent] == ["event"] * 3 + ["result"] * 3
    assert numbers(second.sent, "event") == numbers(second.sent, "result") == [0, 1, 2]


def test_on_a_fresh_connection_nothing_overtakes_what_the_last_one_left_open(make):
    first, second = Wire(code=None), Wire()
    outbox, start = make(one_after_the_other(first, second))
    first.may_return.clear()
    for number in range(10):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: first.sent)
    outbox._link.abort("a test")
    wait_for(lambda: outbox._link.connections == 2)
    first.may_return.set()  # only now the outbox can learn of the change
    wait_for(lambda: outbox.waiting() == 0)
    assert numbers(second.sent, "result") == list(range(10))


def test_the_order_outlives_a_connection_that_breaks_again_and_again(make):
    wires = [Wire(code=None) for _ in range(20)]
    outbox, start = make(one_after_the_other(*wires, last := Wire()))
    start()
    for number in range(40):
        outbox.put("result", numbered("result", number))
    while outbox._link.connections <= 20:
        outbox._link.abort("a test")
        time.sleep(0.001)
    wait_for(lambda: outbox.waiting() == 0)
    assert [sent for sent in (numbers(wire.sent, "result") for wire in wires) if sent != sorted(sent)] == []
    assert numbers(last.sent, "result") == list(range(40))


def test_the_rate_is_limited(make):
    wire = Wire()
    outbox, start = make(one_after_the_other(wire), drain_per_s=100)
    for number in range(60):
        outbox.put("result", numbered("result", number))
    began_s = time.monotonic()
    start()
    wait_for(lambda: outbox.waiting() == 0)
    assert time.monotonic() - began_s >= 0.45  # a tenth of a second's worth may be saved up


def test_a_clean_stop_sends_what_waits_without_regard_to_the_rate(make):
    wire = Wire()
    outbox, start = make(one_after_the_other(wire), drain_per_s=1)
    for number in range(200):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: outbox._link.connected)
    assert outbox.stop(10) == 0
    assert numbers(wire.sent, "result") == list(range(200))


def test_a_stop_without_a_connection_tells_at_once_what_is_lost(make):
    outbox, start = make(one_after_the_other())
    start()
    for number in range(7):
        outbox.put("result", numbered("result", number))
    assert outbox.stop(10) == 7


def test_what_is_refused_is_not_delivered_and_comes_again_in_its_order(make, monkeypatch):
    monkeypatch.setattr(sender, "REFUSED_PAUSE_S", 1)
    wire = Wire(code=None)
    outbox, start = make(one_after_the_other(wire))
    for number in range(10):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: len(wire.sent) == 10)
    for message in wire.sent:
        wire.confirm(message.token, 0x87)
    wait_for(lambda: outbox.counts["refused"] == 10)
    assert (outbox.waiting(), outbox.counts["delivered"]) == (10, 0)
    wire.code = 0
    wait_for(lambda: outbox.waiting() == 0)
    assert numbers(wire.sent, "result") == [*range(10), *range(10)]


def test_what_is_refused_and_what_is_taken_back_keep_their_order_together(make):
    first, second = Wire(code=None), Wire()
    outbox, start = make(one_after_the_other(first, second))
    for number in range(6):
        outbox.put("result", numbered("result", number))
    start()
    wait_for(lambda: len(first.sent) == 6)
    for refused in (1, 3):
        first.confirm(first.sent[refused].token, 0x97)
    wait_for(lambda: outbox.counts["refused"] == 2)
    first.cut()
    wait_for(lambda: not outbox._in_flight)
    assert waiting(outbox, "result") == list(range(6))


def test_a_receipt_for_something_else_is_ignored(make):
    wire = Wire()
    outbox, start = make(one_after_the_other(wire))
    start()
    wire.confirm(999)
    outbox.put("result", numbered("result", 1))
    wait_for(lambda: outbox.waiting() == 0)
    assert outbox.counts["delivered"] == 1


def test_nothing_is_lost_when_the_broker_dies_and_comes_back(make, tmp_path):
    with running_broker(tmp_path) as broker:
        config = mqtt.Config(host=broker.host, port=broker.port)
        outbox, start = make(lambda: mqtt.create(config, "ea-test-records"))
        heard = []
        start()
        with Listener(broker.port) as listener:
            for number in range(100):
                outbox.put("result", numbered("result", number))
            listener.wait_for_count(lambda _: True, 30)
            broker.kill()
            heard += listener.heard
        for number in range(100, 199):
            outbox.put("result", numbered("result", number))
        broker.start()
        with Listener(broker.port) as listener:  # it may come after the first of them: the broker keeps nothing for it
            outbox.put("result", numbered("result", 199))
            wait_for(lambda: outbox.waiting() == 0)
            listener.wait_for(lambda message: message.json["n"] == 199)
            after = listener.on("result")
        before, later = ([message.json["n"] for message in part] for part in (heard, after))
        assert before == list(range(len(before)))
        assert later == list(range(later[0], 200))
        assert outbox.counts["delivered"] == 200
        assert outbox.counts["dropped_results"] == 0
