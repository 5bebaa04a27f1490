import cv2
import numpy as np
import pytest

from edge_agent.app.bench.pictures import MOST, jpegs, moved_along, pictures
from edge_agent.core.datatypes import Later
from edge_agent.errors import UsageError


def test_by_default_there_are_frames_of_the_simulated_line():
    frames = pictures(None, (320, 180))
    assert len(frames) == MOST
    assert {frame.shape for frame in frames} == {(180, 320, 3)}


def test_a_single_picture_moves_once_across_the_frame():
    picture = np.zeros((1, 8, 3), np.uint8)
    picture[0, 0] = 255
    assert [int(frame[0, :, 0].argmax()) for frame in moved_along(picture, 4)] == [0, 2, 4, 6]


def test_pictures_of_a_folder_are_shown_at_the_size_asked_for(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((10, 10, 3), 60 * number, np.uint8))
    frames = pictures(tmp_path, (32, 16))
    assert [frame[0, 0, 0] for frame in frames] == [0, 60, 120]
    assert frames[0].shape == (16, 32, 3)


def test_frames_cannot_be_written_to():
    assert not pictures(None, (320, 180))[0].flags.writeable


@pytest.mark.parametrize(("source", "size"), [("nowhere", (64, 64)), (None, (32, 32))])
def test_what_cannot_be_shown_is_a_wrong_call(tmp_path, source, size):
    with pytest.raises(UsageError, match="--source"):
        pictures(source and tmp_path / source, size)


def test_jpegs_are_decoded_on_their_road():
    frames = pictures(None, (320, 180))
    reel = jpegs(frames)
    picture = reel.picture_of(reel.arrays[0])
    assert isinstance(picture, Later)
    assert np.abs(picture.image.astype(int) - frames[0]).mean() < 5
