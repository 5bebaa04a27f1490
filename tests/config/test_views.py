"""How a camera's picture is turned and cut, as the file says it."""

import pytest

from edge_agent.config import ConfigProblemsError, load
from tests.fixtures import REPO

TEXT = (REPO / "examples" / "raspberry-pi-camera.toml").read_text()
ROI = "roi = [[0.0, 0.2], [1.0, 0.8]]"


def loaded(tmp_path, old, new):
    assert TEXT.count(old) == 1
    path = tmp_path / "agent.toml"
    path.write_text(TEXT.replace(old, new))
    return load(path).config.cameras[0]


def test_a_picture_is_neither_turned_nor_cut_where_nothing_is_said(tmp_path):
    camera = loaded(tmp_path, "rotation = 180", "")
    assert (camera.rotation, loaded(tmp_path, ROI, "").roi) == (0, None)


def test_rotation_and_region_are_as_they_stand(tmp_path):
    camera = loaded(tmp_path, "rotation = 180", "rotation = 270")
    assert (camera.rotation, camera.roi) == (270, ((0.0, 0.2), (1.0, 0.8)))


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ("[[0.2, 0.0], [0.2, 1.0]]", "is empty: its corners share an x or a y"),
        ("[[0.0, 0.5], [1.0, 0.5]]", "is empty: its corners share an x or a y"),
        ("[[0.8, 0.0], [0.2, 1.0]]", "has its corners swapped: the top left one comes first"),
        ("[[0.0, 1.0], [1.0, 0.0]]", "has its corners swapped: the top left one comes first"),
        ("[[0.0, 0.0], [1.5, 1.0]]", "must be at most 1, not 1.5"),
        ("[[-0.1, 0.0], [1.0, 1.0]]", "must be at least 0, not -0.1"),
        ("[0.0, 0.0, 1.0, 1.0]", "cameras[0].roi: must have at most 2 items, not 4"),
        ("[[0.0, 0.0]]", "cameras[0].roi[1]: is missing"),
    ],
)
def test_a_region_that_is_none_is_refused(tmp_path, roi, message):
    with pytest.raises(ConfigProblemsError) as caught:
        loaded(tmp_path, ROI, f"roi = {roi}")
    assert all(problem.key.startswith("cameras[0].roi") for problem in caught.value.problems)
    assert message in str(caught.value)


@pytest.mark.parametrize("rotation", ["45", "-90", "90.5", '"90"', "true"])
def test_a_rotation_that_is_no_quarter_is_refused(tmp_path, rotation):
    with pytest.raises(ConfigProblemsError, match=r"cameras\[0\]\.rotation: must be 0, 90, 180 or 270, not"):
        loaded(tmp_path, "rotation = 180", f"rotation = {rotation}")


@pytest.mark.parametrize(("key", "text"), [("exposure = 4 ", "exposure = 'dark' "), ("gain = 2.0", "gain = 'much'")])
def test_a_setting_that_is_neither_a_number_nor_auto_is_refused(tmp_path, key, text):
    with pytest.raises(ConfigProblemsError, match="must be a number, or 'auto', not"):
        loaded(tmp_path, key, text)
