import subprocess
import sys

import pytest

from tests.fixtures import REPO

LEAVE = """
import threading, time
from edge_agent.app.run import _leave
from edge_agent.errors import ConfigError
threading.Thread(target=time.sleep, args=(60,)).start()
_leave({})
"""


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ("0", 0, ""),
        ("78, ConfigError('line3.toml: is wrong')", 78, "edge-agent: line3.toml: is wrong\n"),
        ("1, KeyError('x')", 1, "KeyError: 'x'\n"),
    ],
)
def test_a_thread_that_hangs_does_not_hold_up_the_end_and_its_exit_code(arguments, exit_code, said):
    command = [sys.executable, "-c", LEAVE.format(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPO, timeout=30)
    assert (done.returncode, done.stderr) == (exit_code, said)
