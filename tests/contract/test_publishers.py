"""What every publisher promises, on every kind: see `edge_agent.core.ports.Publisher`."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from edge_agent.core.ports import Heard, Message, Publisher, Receipt
from edge_agent.errors import PublisherLostError
from edge_agent.publishers import mqtt, stdout
from tests.brokers import Listener, running_broker


@dataclass
class Rig:
    """A kind with its other side: `arrived(n)` waits for `n` messages and gives their topics and payloads.

    `say` publishes to topics from there, where that is possible.
    """

    open: Callable[..., Publisher]  # with the topics to subscribe to
    arrived: Callable[[int], list[tuple[str, object]]]
    say: Callable[..., None] = lambda *_topics: None


def stdout_rig(capfd: pytest.CaptureFixture[str]) -> Iterator[Rig]:
    def arrived(_count: int) -> list[tuple[str, object]]:
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        return [(line["topic"], line["payload"]) for line in lines]

    yield Rig(lambda *topics: stdout.create(stdout.Config(), "contract", None, topics), arrived)


def mqtt_rig(tmp_path) -> Iterator[Rig]:
    with running_broker(tmp_path, "max_queued_messages 0") as broker, Listener(broker.port) as listener:
        config = mqtt.Config(host=broker.host, port=broker.port)
        yield Rig(
            lambda *topics: mqtt.create(config, "contract", None, topics),
            lambda count: [(h.topic, h.json) for h in listener.wait_for_count(lambda _: True, count, timeout=30)],
            lambda *topics: [listener.publish(topic) for topic in topics],
        )


@pytest.fixture(params=["mqtt", "stdout"])
def rig(request, tmp_path) -> Iterator[Rig]:
    yield from mqtt_rig(tmp_path) if request.param == "mqtt" else stdout_rig(request.getfixturevalue("capfd"))


def poll_for(publisher: Publisher, count: int, kind: type) -> list:
    """So many of that kind, or fewer where they do not come."""
    came = []
    for _ in range(100):
        came += [item for item in publisher.poll(0.2) if isinstance(item, kind)]
        if len(came) >= count:
            break
    return came


def poll_until_receipts(publisher: Publisher, count: int) -> list[Receipt]:
    return poll_for(publisher, count, Receipt)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_with_a_token_gets_one_receipt_and_arrives(rig, qos):
    publisher = rig.open()
    publisher.send(Message("a/b", b'{"n":1}', qos=qos, token=7))
    receipts = poll_until_receipts(publisher, 1)
    publisher.close()
    assert [receipt.token for receipt in receipts] == [7]
    assert receipts[0].accepted
    assert rig.arrived(1) == [("a/b", {"n": 1})]


def test_a_message_without_a_token_gets_no_receipt(rig):
    publisher = rig.open()
    publisher.send(Message("a", b"{}", qos=1))
    publisher.send(Message("a", b"{}", qos=0))
    publisher.send(Message("a", b"{}", qos=1, token=1))
    receipts = poll_until_receipts(publisher, 1)
    publisher.close()
    assert [receipt.token for receipt in receipts] == [1]


def test_a_subscription_is_either_refused_or_heard(rig):
    publisher = rig.open("in/a", "in/b")
    heard = []
    if not publisher.refused:
        rig.say("in/a", "in/b")
        heard = poll_for(publisher, 2, Heard)
    publisher.close()
    assert set(publisher.refused) | {item.topic for item in heard} == {"in/a", "in/b"}


def test_without_subscriptions_nothing_is_refused(rig):
    publisher = rig.open()
    assert not publisher.refused
    publisher.close()


def test_a_poll_without_news_returns_nothing(rig):
    publisher = rig.open()
    assert list(publisher.poll(0.01)) == []
    publisher.close()


@pytest.mark.parametrize("abort", [False, True])
def test_send_and_poll_raise_after_close(rig, abort):
    publisher = rig.open()
    publisher.close(abort=abort)
    with pytest.raises(PublisherLostError):
        publisher.send(Message("a", b"{}"))
    with pytest.raises(PublisherLostError):
        publisher.poll(5)


def test_closing_twice_does_nothing(rig):
    publisher = rig.open()
    publisher.close()
    publisher.close()
    publisher.close(abort=True)


def test_aborting_from_another_thread_ends_a_poll(rig):
    publisher = rig.open()
    ended = threading.Event()

    def poll() -> None:
        try:
            while True:
                publisher.poll(30)
        except PublisherLostError:
            ended.set()

    thread = threading.Thread(target=poll)
    thread.start()
    publisher.close(abort=True)
    thread.join(20)
    assert ended.is_set()


def test_of_messages_from_four_threads_nothing_is_lost_or_garbled(rig):
    publisher = rig.open()
    room = threading.Semaphore(16)  # below any receive maximum
    padding = "x" * 600

    def talk(who: int) -> None:
        for n in range(500):
            room.acquire()
            payload = json.dumps({"who": who, "n": n, "padding": padding}).encode()
            publisher.send(Message(f"talk/{who}", payload, qos=1, token=1000 * who + n))

    threads = [threading.Thread(target=talk, args=(who,), daemon=True) for who in range(4)]
    for thread in threads:
        thread.start()
    tokens: list[int] = []
    while len(tokens) < 2000:
        receipts = publisher.poll(1)
        tokens += [receipt.token for receipt in receipts if receipt.accepted]
        for _ in receipts:
            room.release()
    publisher.close()
    arrived = rig.arrived(2000)
    assert sorted(tokens) == sorted(1000 * who + n for who in range(4) for n in range(500))
    assert len(arrived) == 2000
    for who in range(4):
        mine = [payload for topic, payload in arrived if topic == f"talk/{who}"]
        assert mine == [{"who": who, "n": n, "padding": padding} for n in range(500)]
