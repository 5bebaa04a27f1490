"""A broker and a listener for every test of the real process."""

import pytest

from tests.brokers import Listener, running_broker


@pytest.fixture
def broker(tmp_path):
    with running_broker(tmp_path) as running:
        yield running


@pytest.fixture
def listener(broker):
    with Listener(broker.port, "factory/#") as listening:
        yield listening


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path, monkeypatch):
    """What an agent leaves for the next start is for agents of the same test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
