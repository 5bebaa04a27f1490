"""`Link`, on a real mosquitto: connections that do not come, break, and are cut."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from structlog.testing import capture_logs

from edge_agent.core import ports
from edge_agent.core.ports import Message, Publisher, Receipt
from edge_agent.publishers import mqtt, stdout
from edge_agent.runtime import link as link_module
from edge_agent.runtime.link import Down, Link, Up
from tests.brokers import Broker, Heard, Listener, running_broker
from tests.runtime.stations import Wire, one_after_the_other


@pytest.fixture
def broker(tmp_path):
    with running_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def start():
    """Starts links that are stopped at the end of the test."""
    links: list[Link] = []

    def start(open_: Callable[[], Publisher], hear: Callable[[ports.Heard], None] | None = None) -> Link:
        links.append(Link("line", open_, hear=hear))
        links[-1].start()
        return links[-1]

    yield start
    for link in links:
        link.stop(10)


def to(
    broker: Broker, will: Message | None = None, subscriptions: Sequence[str] = (), **settings
) -> Callable[[], Publisher]:
    config = mqtt.Config(host=broker.host, port=broker.port, **settings)
    return lambda: mqtt.create(config, "ea-test-line", will, subscriptions)


def next_notice(link: Link) -> Up | Down | Receipt:
    return link.inbox.get(timeout=30)


def wait_until(claim: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def is_last(heard: Heard) -> bool:
    return heard.topic == "last"


def test_a_message_on_a_standing_connection_gets_its_receipt_after_up(broker, start):
    link = start(to(broker))
    assert next_notice(link) == Up()
    wait_until(lambda: link.connected)
    assert link.send(Message("a", b"{}", qos=1, token=4))
    assert next_notice(link) == Receipt(4, 0x10)
    assert link.connections == 1


def test_a_broker_that_is_absent_at_the_start_is_found_when_it_appears(tmp_path, start):
    broker = Broker(tmp_path)
    link = start(to(broker))
    first = next_notice(link)
    assert isinstance(first, Down)
    assert "Connection refused" in first.reason
    assert not link.connected
    broker.start()
    assert next_notice(link) == Up()
    broker.kill()


def test_a_broker_that_is_killed_and_comes_back_is_found_again(broker, start):
    link = start(to(broker))
    assert next_notice(link) == Up()
    broker.kill()
    assert isinstance(next_notice(link), Down)
    broker.start()
    notices = [next_notice(link)]
    while notices[-1] != Up():
        notices.append(next_notice(link))
    assert all("Connection refused" in notice.reason for notice in notices[:-1])
    assert len(notices) <= 2  # failing again for the same reason is no news
    assert link.connections == 2


def test_a_message_sent_while_there_is_no_connection_is_refused_and_never_arrives(broker, start):
    link = start(to(broker))
    assert next_notice(link) == Up()
    broker.kill()
    assert isinstance(next_notice(link), Down)
    assert not link.send(Message("lost", b"{}", qos=1, token=1))
    broker.start()
    with Listener(broker.port) as listener:
        wait_until(lambda: link.send(Message("last", b"{}", qos=1)))
        listener.wait_for(is_last)
        assert not listener.on("lost")


def test_an_abort_opens_a_fresh_connection_and_nothing_in_flight_is_sent_again(tmp_path, start):
    will = Message("will", b"{}", qos=1)
    with running_broker(tmp_path) as broker, Listener(broker.port) as listener:
        link = start(to(broker, will))
        assert next_notice(link) == Up()
        broker.freeze()
        wait_until(lambda: link.send(Message("verdict", b"{}", qos=1, token=1)))
        link.abort("a verdict was not confirmed while it was valid")
        assert next_notice(link) == Down("a verdict was not confirmed while it was valid")
        assert not link.send(Message("verdict", b"{}", qos=1, token=2))
        broker.thaw()
        while next_notice(link) != Up():
            pass
        wait_until(lambda: link.send(Message("last", b"{}", qos=1)))
        listener.wait_for(is_last)
        assert len(listener.on("will")) >= 1
        assert len(listener.on("verdict")) <= 1


def test_an_abort_is_followed_by_a_connection_at_once(broker, start):
    link = start(to(broker))
    for _ in range(5):  # with a back-off this would take 8 s and more
        assert next_notice(link) == Up()
        wait_until(lambda: link.connected)
        began_s = time.monotonic()
        link.abort("because")
        assert next_notice(link) == Down("because")
    assert next_notice(link) == Up()
    assert time.monotonic() - began_s < 4
    assert link.connections == 6


def test_an_abort_without_a_connection_does_nothing(tmp_path, start):
    link = start(to(Broker(tmp_path)))
    assert isinstance(next_notice(link), Down)
    link.abort("because")
    assert link.connections == 0


def test_a_stop_closes_cleanly_so_that_no_will_is_sent(broker, start):
    with Listener(broker.port) as listener:
        link = start(to(broker, Message("will", b"{}", qos=1)))
        assert next_notice(link) == Up()
        wait_until(lambda: link.send(Message("state", b'"offline"', qos=1)))
        link.stop(10)
        assert not link.connected
        assert not link.send(Message("lost", b"{}"))
        listener.publish("last")
        listener.wait_for(is_last)
        assert [heard.topic for heard in listener.heard] == ["state", "last"]


def test_a_stop_ends_a_back_off(tmp_path, start):
    link = start(to(Broker(tmp_path)))
    assert isinstance(next_notice(link), Down)
    link.stop(10)
    assert not link._thread.is_alive()


def test_a_reopen_closes_cleanly_and_reads_the_secrets_anew(broker, tmp_path, start):
    with Listener(broker.port) as listener:
        password = tmp_path / "password"
        password.write_text("one")
        password.chmod(0o600)
        link = start(to(broker, Message("will", b"{}", qos=1), username="agent", password_file=password))
        assert next_notice(link) == Up()
        password.chmod(0o644)
        link.reopen()
        assert next_notice(link) == Down("reopened")
        problem = next_notice(link)
        assert isinstance(problem, Down)
        assert "run: chmod 600" in problem.reason
        password.chmod(0o600)
        link.reopen()  # does not wait for the slow retry
        assert next_notice(link) == Up()
        listener.publish("last")
        listener.wait_for(is_last)
        assert not listener.on("will")


def test_a_bug_in_opening_is_told_and_does_not_end_the_thread(start):
    def open_() -> Publisher:
        raise ZeroDivisionError("oops")

    with capture_logs() as logs:
        link = start(open_)
        assert next_notice(link) == Down("internal error: ZeroDivisionError('oops')")
    assert link._thread.is_alive()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["link_open_failed"]


def test_the_thread_ticks_while_it_idles_and_while_it_backs_off(broker, tmp_path, start):
    (tmp_path / "absent").mkdir()
    for link in (start(to(broker)), start(to(Broker(tmp_path / "absent")))):
        next_notice(link)
        for _ in range(3):
            tick_ns = link.last_tick_ns
            wait_until(lambda link=link, tick_ns=tick_ns: link.last_tick_ns > tick_ns)


def test_failing_again_for_the_same_reason_is_logged_once(start):
    attempts: queue.SimpleQueue[int] = queue.SimpleQueue()
    with socket.socket() as sock:  # bound, and nobody listens
        sock.bind(("127.0.0.1", 0))
        config = mqtt.Config(host="127.0.0.1", port=sock.getsockname()[1])

        def open_() -> Publisher:
            attempts.put(1)
            return mqtt.create(config, "a")

        with capture_logs() as logs:
            link = start(open_)
            for _ in range(3):
                attempts.get(timeout=20)
            link.stop(10)
    retries = [entry for entry in logs if entry["event"] == "link_retry"]
    assert [entry["log_level"] for entry in retries[:2]] == ["warning", "debug"]
    assert "Connection refused" in retries[0]["reason"]
    assert retries[0]["link"] == "line"


def test_a_start_never_waits_for_the_connection():
    release = threading.Event()

    def open_() -> Publisher:
        release.wait(20)
        raise mqtt.PublisherLostError("no")

    link = Link("line", open_)
    link.start()
    assert not link.connected
    assert not link.send(Message("a", b"{}"))
    release.set()
    link.stop(10)


# --- what comes in ----------------------------------------------------------------------------------------------------


def test_what_comes_in_is_heard_in_order_and_does_not_go_to_the_inbox(broker, start):
    heard: list[ports.Heard] = []
    link = start(to(broker, subscriptions=["trigger"]), heard.append)
    assert next_notice(link) == Up()
    with Listener(broker.port) as listener:
        for number in range(20):
            listener.publish("trigger", b"%d" % number)
    wait_until(lambda: len(heard) == 20)
    assert [int(item.payload) for item in heard] == list(range(20))
    assert link.inbox.empty()
    assert link.unheard == 0


def test_an_error_in_who_hears_is_logged_and_counted_and_the_next_message_is_heard(start):
    heard: list[bytes] = []

    def hear(item: ports.Heard) -> None:
        heard.append(item.payload)
        if item.payload == b"bad":
            raise ZeroDivisionError("oops")

    wire = Wire()
    with capture_logs() as logs:
        link = start(one_after_the_other(wire), hear)
        for payload in (b"bad", b"bad", b"good"):
            wire.say("trigger", payload)
        wait_until(lambda: len(heard) == 3)
    assert link.connected
    assert link.unheard == 2
    assert [entry["topic"] for entry in logs if entry["event"] == "link_hear_failed"] == ["trigger"]


def test_what_comes_in_and_nobody_listens_to_is_counted(start):
    wire = Wire()
    link = start(one_after_the_other(wire))
    wire.say("trigger", b"{}")
    wait_until(lambda: link.unheard == 1)


def test_a_refused_subscription_is_told_and_the_connection_stands(start, capfd):
    with capture_logs() as logs:
        link = start(lambda: stdout.create(stdout.Config(), "x", None, ["trigger/top"]))
        refused = {"trigger/top": "standard output does not listen"}
        assert next_notice(link) == Up()
        assert link.refused == refused
    wait_until(lambda: link.connected)
    assert [entry["topics"] for entry in logs if entry["event"] == "link_subscription_refused"] == [refused]


# --- short lives ------------------------------------------------------------------------------------------------------


def test_connections_that_the_other_side_ends_soon_are_counted_and_not_those_that_we_end(start):
    wires = Wire(), Wire(), Wire(), Wire()
    link = start(one_after_the_other(*wires))
    for number, wire in enumerate(wires[:2]):
        wait_until(lambda number=number: link.connections == number + 1)
        wire.cut("taken over")
        wait_until(lambda number=number: link.short_lives == number + 1)
    wait_until(lambda: link.connections == 3)
    link.abort("because")
    wait_until(lambda: link.connections == 4)
    assert link.short_lives == 2


def test_a_connection_that_lasts_ends_the_count_of_short_lives(start, monkeypatch):
    monkeypatch.setattr(link_module, "LASTED_S", 0.3)
    wires = Wire(), Wire()
    link = start(one_after_the_other(*wires))
    wait_until(lambda: link.connections == 1)
    wires[0].cut()
    wait_until(lambda: link.short_lives == 1)
    wait_until(lambda: link.short_lives == 0)
    assert link.connected
    assert link.connections == 2


def test_two_that_use_one_client_id_do_not_fight_at_full_speed(broker, start):
    with capture_logs() as logs:
        links = [start(to(broker)), start(to(broker))]
        wait_until(lambda: sum(link.connections for link in links) >= 4)
    assert max(link._wait_s for link in links) >= 1.0
    short_lives = [entry["short_lives"] for entry in logs if entry["event"] == "link_down"]
    assert max(short_lives) >= 1
