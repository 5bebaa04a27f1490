import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.datatypes import TensorSpec
from edge_agent.errors import ModelError
from edge_agent.models.bare import FORMATS, ModelFile, describe, identify, labels_of, normalise


@pytest.mark.parametrize(("suffix", "form"), FORMATS.items())
def test_a_file_is_known_by_its_suffix_name_and_digest(tmp_path, suffix, form):
    path = tmp_path / f"caps-1.2{suffix}"
    content = bytes(range(256)) * 9000
    path.write_bytes(content)
    assert identify(path) == ModelFile(path, "caps-1.2", hashlib.sha256(content).hexdigest(), form)


def test_the_suffix_may_be_in_capitals(tmp_path):
    path = tmp_path / "CAPS.ONNX"
    path.write_bytes(b"x")
    assert identify(path).format == "onnx"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"caps\.onnx: there is no such file"):
        identify(tmp_path / "caps.onnx")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "caps.onnx").touch()
    with pytest.raises(ModelError, match="is empty; copy the model again"):
        identify(tmp_path / "caps.onnx")


def test_a_folder_is_refused_with_what_to_give_instead(tmp_path):
    with pytest.raises(ModelError, match="is a folder; bundles cannot be read yet: give the"):
        identify(tmp_path)


def test_a_pytorch_file_is_refused_with_how_to_export_it(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"must end in \.tflite, .*yolo export"):
        identify(tmp_path / "best.pt")


def test_metadata_of_texts_becomes_plain_values():
    raw = {
        "names": "{0: 'cap', 1: \"crack's\"}",
        "imgsz": "[640, 640]",
        "end2end": "True",
        "args": '{"nms": true}',
        "stride": "32",
        "version": "8.4",
        "task": "detect",
        "note": "__import__('os').getcwd()",
        "batch": 1,
    }
    assert normalise(raw) == {
        "names": {0: "cap", 1: "crack's"},
        "imgsz": [640, 640],
        "end2end": True,
        "args": {"nms": True},
        "stride": 32,
        "version": "8.4",
        "task": "detect",
        "note": "__import__('os').getcwd()",
        "batch": 1,
    }


@given(st.dictionaries(st.text(), st.text() | st.binary() | st.integers()))
def test_no_metadata_whatever_breaks_the_reading(raw):
    assert normalise(raw).keys() == raw.keys()


def test_deeply_nested_metadata_stays_text():
    text = "[" * 100_000
    assert normalise({"names": text}) == {"names": text}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({0: "cap", 1: "crack"}, ("cap", "crack")),
        ({"1": "crack", "0": "cap"}, ("cap", "crack")),
        (["cap", "crack"], ("cap", "crack")),
        ({0: "cap", 3: "crack"}, ("cap", "class_1", "class_2", "crack")),
        ({}, ()),
        (None, ()),
    ],
    ids=["numbers", "texts", "list", "gaps", "empty", "none"],
)
def test_names_in_metadata_become_labels(names, labels):
    assert labels_of({"names": names}) == labels


def test_labels_in_metadata_are_the_lines_of_a_labels_file():
    assert labels_of({"labels": ["???", "cap", "crack"]}) == ("cap", "crack")
    assert labels_of({"labels": ["0  cap", "1  crack"]}) == ("cap", "crack")


def test_names_in_metadata_are_no_lines_with_ids():
    assert labels_of({"names": ["0 cap", "1 crack"]}) == ("0 cap", "1 crack")


@pytest.mark.parametrize("names", [{"cap": 0}, {-1: "cap"}, {10**9: "cap"}, "cap", 7])
def test_names_that_do_not_name_classes_are_refused(names):
    with pytest.raises(ModelError, match=r"the names of its classes cannot be read .* write labels"):
        labels_of({"names": names})


FILE_SPECS = [TensorSpec("t", (1, 6, 21), np.dtype(np.float32))]


@pytest.fixture
def model_file(tmp_path):
    (tmp_path / "caps.onnx").write_bytes(b"x")
    return identify(tmp_path / "caps.onnx")


def test_a_model_is_described_by_its_file_its_metadata_and_its_tensors(model_file):
    model = describe(model_file, {"names": "{0: 'cap'}", "task": "detect"}, FILE_SPECS, FILE_SPECS)
    assert (model.name, model.format, model.sha256) == ("caps", "onnx", model_file.sha256)
    assert (model.labels, model.metadata["names"]) == (("cap",), {0: "cap"})
    assert model.inputs == model.outputs == tuple(FILE_SPECS)


def test_a_labels_file_wins_over_the_metadata(model_file, tmp_path):
    (tmp_path / "labels.txt").write_text("Kappe\nRiss\n")
    model = describe(model_file, {"names": "{0: 'cap'}"}, FILE_SPECS, FILE_SPECS, tmp_path / "labels.txt")
    assert model.labels == ("Kappe", "Riss")


def test_a_labels_file_that_is_too_short_for_the_model_is_refused(model_file, tmp_path):
    (tmp_path / "labels.txt").write_text("Kappe\n")
    with pytest.raises(ModelError, match=r"labels.txt: has 1 labels, but the model names 2 classes"):
        describe(model_file, {"names": ["a", "b"]}, FILE_SPECS, FILE_SPECS, tmp_path / "labels.txt")


def test_unreadable_names_are_refused_with_the_model_file(model_file):
    with pytest.raises(ModelError, match=r"caps\.onnx: the names of its classes"):
        describe(model_file, {"names": "nonsense"}, FILE_SPECS, FILE_SPECS)
