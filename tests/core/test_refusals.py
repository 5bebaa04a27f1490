import numpy as np
import pytest

from edge_agent.core.datatypes import ModelSpec, TensorSpec
from edge_agent.core.refusals import check_classes, check_unit, labels_for, required_labels, unclear, unexpected
from edge_agent.errors import ModelError

OUTPUT = TensorSpec("output0", (1, 7, 100), np.dtype(np.float32))


def model(*labels: str, **metadata) -> ModelSpec:
    return ModelSpec("caps", "00", "onnx", (), (OUTPUT,), labels, metadata)


def test_what_cannot_be_told_comes_with_the_words_to_write():
    said = str(unclear(model(), "the unit is not certain", "yolo", 'boxes = "pixels"'))
    assert said == 'caps: the unit is not certain; write\n[model.decoder]\nkind = "yolo"\nboxes = "pixels"'


def test_a_comment_stands_behind_the_kind():
    assert str(unclear(model(), "two may fit", "yolo", '# or "yolox"')).endswith('kind = "yolo"     # or "yolox"')


def test_a_warm_up_run_that_nothing_would_mend_says_so():
    assert str(unexpected("all is zero")) == "in the warm-up run all is zero; it is another kind of model, or damaged"


def test_labels_are_those_of_the_model_or_numbers():
    assert labels_for(model("cap", "crack"), OUTPUT, 2) == ("cap", "crack")
    assert labels_for(model(), OUTPUT, 2) == ("class_0", "class_1")


def test_labels_of_another_number_than_the_classes_are_refused_with_both():
    with pytest.raises(ModelError, match=r"there are 1 labels, but the output output0 .* has 2 classes"):
        labels_for(model("cap"), OUTPUT, 2)


def test_a_model_that_does_not_show_its_classes_needs_labels():
    assert required_labels(model("cap")) == ("cap",)
    with pytest.raises(ModelError, match=r'write labels = "FILE" under \[model\]'):
        required_labels(model())


@pytest.mark.parametrize("name", ["background", "Background", "__background__"])
def test_a_labels_file_that_begins_with_the_background_is_refused(name):
    with pytest.raises(ModelError, match="every name would be that of the class before"):
        required_labels(model(name, "cap"))


def test_a_model_that_itself_names_its_first_class_background_is_believed():
    assert required_labels(model("background", "cap", names={0: "background", 1: "cap"})) == ("background", "cap")


@pytest.mark.parametrize("first", [0, 1])
def test_a_class_of_a_warm_up_run_without_a_label_is_refused(first):
    check_classes(np.array([first, first + 1.0]), ("cap", "crack"), first)
    check_classes(np.empty(0), ("cap", "crack"), first)
    with pytest.raises(ModelError, match=f"gave the class {first + 2}, counted from {first}, but there are only 2"):
        check_classes(np.array([first, first + 2.0]), ("cap", "crack"), first)


@pytest.mark.parametrize(
    ("fractions", "said", "seen"), [(True, "normalised", "pixels"), (False, "pixels", "normalised")]
)
def test_boxes_in_the_other_unit_are_refused_with_what_to_write(fractions, said, seen):
    boxes = np.array([[0.1, 0.2, 0.4, 1.1], [0, 0, 0, 0], [0, 0, np.nan, 1], [0.5, 0.5, 0.2, 0.2]], np.float32)
    right, wrong = (boxes, boxes * 640) if fractions else (boxes * 640, boxes)
    check_unit(right, fractions=fractions)
    with pytest.raises(ModelError, match=f'which should be {said}, (.|\n)* they look {seen}; (.|\n)*unit = "{seen}"$'):
        check_unit(wrong, 'unit = "{seen}"', fractions=fractions)


@pytest.mark.parametrize("empty", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.empty((0, 4))])
def test_empty_rows_tell_no_unit(empty):
    check_unit(empty.astype(np.float32), fractions=True)
    check_unit(empty.astype(np.float32), fractions=False)


@pytest.mark.parametrize("fractions", [True, False])
def test_boxes_relative_to_cells_are_refused_in_either_unit(fractions):
    with pytest.raises(ModelError, match="reach 2 or more, which is neither normalised nor pixels; it is another kind"):
        check_unit(np.tile(np.float32([0.5, 0.4, 2, -0.3]), (9, 1)), 'unit = "{seen}"', fractions=fractions)
