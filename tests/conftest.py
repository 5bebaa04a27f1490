"""For all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# The drivers set this before OpenCV first needs it; a test that writes a video of its own may come before them.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# The machines that run this are shared and slow at times: what takes long is not wrong.
# Examples are the same every time: new ones are looked for by scripts/fuzz, not by whoever lands a change.
settings.register_profile(
    "shared machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="EDGE_AGENT_FUZZ_CASES" not in os.environ,
)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True, scope="session")
def _state_folder(tmp_path_factory):
    """No test writes into the state folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        environment.delenv("STATE_DIRECTORY", raising=False)
        yield
