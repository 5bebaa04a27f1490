import socket
import urllib.request

import pytest
import structlog

from edge_agent.runtime.metrics import Metrics
from edge_agent.runtime.metrics_http import LOOPBACK, MetricsServer
from tests.brokers import free_port
from tests.runtime.figures import Figures
from tests.runtime.stations import record, wait_for
from tests.runtime.test_health import Plant


@pytest.fixture
def served(tmp_path):
    """A server that is not started yet, and its port."""
    port = free_port()
    with Plant(record(tmp_path / "m.npz", [])) as plant:
        server = MetricsServer(port, Metrics(plant.health, plant.station.scribe), again_s=0.02)
        yield server, port
        server.stop(20)


def answers(port, host=LOOPBACK):
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def get(port, accept="text/plain"):
    request = urllib.request.Request(f"http://{LOOPBACK}:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - it is http
        return answer.headers["Content-Type"], answer.read().decode()


def test_the_figures_can_be_read_over_http_and_are_ours_alone(served):
    server, port = served
    server.start()
    wait_for(lambda: answers(port))
    kind, text = get(port)
    assert kind.startswith("text/plain; version=0.0.4")
    assert Figures(text).faults() == []
    assert all(name.startswith("edge_agent_") for name in Figures(text).families)


def test_openmetrics_is_spoken_where_it_is_asked_for(served):
    server, port = served
    server.start()
    wait_for(lambda: answers(port))
    kind, text = get(port, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


def test_nobody_outside_this_machine_is_answered(served):
    server, port = served
    server.start()
    wait_for(lambda: answers(port))
    assert not answers(port, "127.0.0.2")
    assert not answers(port, "::1")


def test_a_port_that_is_taken_is_told_and_used_once_it_is_free(served):
    server, port = served
    with structlog.testing.capture_logs() as logged:
        with socket.create_server((LOOPBACK, port)):
            server.start()
            wait_for(lambda: logged)
        wait_for(lambda: len(logged) == 2)
    assert [entry["event"] for entry in logged] == ["metrics_not_served", "metrics_served"]
    assert logged[0]["reason"] == "Address already in use"
    assert get(port)


def test_clients_that_leave_early_are_no_news(served):
    server, port = served
    with structlog.testing.capture_logs() as logged:
        server.start()
        wait_for(lambda: answers(port))
        for _ in range(5):
            with socket.create_connection((LOOPBACK, port)) as client:
                client.sendall(b"GET /metr")
        assert get(port)
    assert [entry["event"] for entry in logged] == ["metrics_served"]
