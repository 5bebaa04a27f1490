import gc
import sys
from collections import deque

import numpy as np
import pytest

from edge_agent.app.bench.figures import stage_times
from edge_agent.app.bench.pictures import Reel
from edge_agent.app.bench.setting import Setting, Wish
from edge_agent.app.bench.stand import FULL, Stand
from edge_agent.backends import recorded
from edge_agent.core.datatypes import TensorSpec

FEW = 20


@pytest.fixture
def stand(tmp_path):
    """An agent whose engine takes no time, and sees one part in the middle of every picture."""
    found = np.zeros((1, 300, 6), np.float32)
    found[0, 0] = (0.4, 0.4, 0.6, 0.6, 0.9, 0)
    image = TensorSpec("images", (1, 64, 64, 3), np.dtype(np.float32))
    metadata = {"task": "detect", "stride": 32, "names": {"0": "part", "1": "scratch"}, "end2end": True}
    recorded.save(tmp_path / "part.npz", [image], [[found]], metadata)
    frames = [np.zeros((64, 64, 3), np.uint8)]
    setting = Setting(Wish(tmp_path / "part.npz", size=(64, 64)), tmp_path, {"stdout": {}}, frames)
    setting.write_picture()
    stand = Stand(setting.agent("one", setting.look()), Reel(frames))
    interval_s = sys.getswitchinterval()
    stand.start()
    yield stand
    stand.stop()
    gc.unfreeze()
    sys.setswitchinterval(interval_s)


@pytest.mark.system
def test_all_frames_of_a_block_count_however_many_there_are(stand):
    stand.agent.pipeline.stages = deque(maxlen=FEW)
    block = stand.block([FULL], 0.0, 0.3)
    assert len(block.stages) == len(block.sendings) > FEW
    assert stage_times([block])["whole"].n == len(block.sendings)
