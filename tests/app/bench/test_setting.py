import pytest

from edge_agent.app.bench.setting import Setting, Wish, sibling
from edge_agent.app.bench.stand import FRAME, FULL, LINE
from edge_agent.config.triggers import FrameTrigger, LineTrigger
from edge_agent.errors import UsageError
from edge_agent.models.bundled import ONNX, TFLITE


def setting_of(tmp_path, **wish):
    return Setting(Wish(TFLITE, threads=1, **wish), tmp_path, {"stdout": {}}, ())


class Subject:
    """What a setting asks of one."""

    part, defect = "bottle", "crack"


@pytest.mark.parametrize(
    ("model", "backend", "expected"), [(TFLITE, "onnx", ONNX), (ONNX, "tflite", TFLITE), (ONNX, "onnx", ONNX)]
)
def test_another_engine_gets_the_file_of_its_kind(model, backend, expected):
    assert sibling(model, backend) == expected


def test_tensorrt_gets_the_onnx_model_that_its_engine_is_built_from():
    assert sibling(TFLITE, "tensorrt") == ONNX


def test_a_model_without_a_sibling_cannot_be_compared(tmp_path):
    with pytest.raises(UsageError, match="beside it there is none"):
        sibling(tmp_path / "alone.tflite", "onnx")


def test_an_agent_on_the_stand_has_a_camera_for_each_kind_of_block(tmp_path):
    cameras = setting_of(tmp_path).agent("one", Subject).config.cameras
    assert [camera.id for camera in cameras] == [FRAME, LINE, FULL]
    assert isinstance(cameras[0].trigger, FrameTrigger)
    assert isinstance(cameras[1].trigger, LineTrigger)


def test_several_cameras_come_beside_them(tmp_path):
    cameras = setting_of(tmp_path, cameras=3).agent("one", Subject).config.cameras
    assert [camera.id for camera in cameras] == [FRAME, "frame-1", "frame-2", "frame-3", LINE, FULL]


def test_health_is_watched_where_that_is_asked_for(tmp_path):
    assert setting_of(tmp_path).agent("one", Subject).config.cameras[0].health is None
    assert setting_of(tmp_path, health=True).agent("one", Subject).config.cameras[0].health is not None


def test_what_the_user_asked_for_is_in_the_configuration(tmp_path):
    decoder = {"kind": "yolo", "boxes": "pixels"}
    config = setting_of(tmp_path, decoder=decoder, backend="tflite").process("one", Subject, 5.0).config
    assert (config.hardware.threads, config.hardware.backend) == (1, "tflite")
    assert config.model.decoder.boxes == "pixels"
