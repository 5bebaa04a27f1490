"""Why a model cannot be read, in the same words for every decoder, with what to write instead."""

from collections.abc import Sequence

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, ModelSpec, TensorSpec
from edge_agent.errors import LabelsError, ModelError

_FRACTION_MOST = 1.5  # a box in fractions reaches a little over 1
_PIXELS_LEAST = 8.0  # the finest cell of a grid; relative coordinates, as YOLOX has them, lie between the two
_BACKGROUND = frozenset({"background", "__background__"})


def unclear(model: ModelSpec, problem: str, kind: str, setting: str) -> ModelError:
    """The error for what cannot be told: the `kind` of decoder and the `setting` to write, or a comment on the kind."""
    between = "     " if setting.startswith("#") else "\n"
    return ModelError(f'{model.name}: {problem}; write\n[model.decoder]\nkind = "{kind}"{between}{setting}')


def unexpected(problem: str, instead: str = "") -> ModelError:
    """The error for a warm-up run that gave something else, with the words to write `instead`, if any would help."""
    advice = f"write\n[model.decoder]\n{instead}" if instead else "it is another kind of model, or damaged"
    return ModelError(f"in the warm-up run {problem}; {advice}")


def labels_for(model: ModelSpec, output: TensorSpec, classes: int) -> tuple[str, ...]:
    """The name of each of the `classes` of an output: the model's labels, or `class_0`, `class_1`, … where it has none.

    Raises:
        ModelError: there are more labels than classes, or fewer.
    """
    if model.labels and len(model.labels) != classes:
        raise LabelsError(
            f"{model.name}: there are {len(model.labels)} labels, but the output {output} has {classes} classes; give the "
            "labels file that belongs to the model"
        )
    return model.labels or tuple(f"class_{number}" for number in range(classes))


def required_labels(model: ModelSpec) -> tuple[str, ...]:
    """The labels of a model whose outputs do not show how many classes it has.

    Raises:
        ModelError: there are none, or a file begins with the background, which such models do not count: every name
            would be that of the class before.
    """
    if not model.labels:
        raise ModelError(
            f"{model.name}: its outputs do not show how many classes it has, and the file does not name them; write "
            'labels = "FILE" under [model] (or give --labels FILE): a text file with one name per line, or a .pbtxt '
            "label map"
        )
    if model.labels[0].lower() in _BACKGROUND and "names" not in model.metadata:
        raise LabelsError(
            f"{model.name}: its labels begin with {model.labels[0]!r}, but such models do not count the background as a "
            "class, and every name would be that of the class before; give a labels file without that line, or with "
            "another name in it if it is a class"
        )
    return model.labels


def check_classes(numbers: Array, labels: Sequence[str], first: int = 0) -> None:
    """That every class of a warm-up run has a label; `first` is the number of the first.

    Raises:
        ModelError: one has none.
    """
    if numbers.size and numbers.max() - first >= len(labels):
        raise LabelsError(
            f"the warm-up run gave the class {int(numbers.max())}, counted from {first}, but there are only "
            f"{len(labels)} labels; give the labels file that belongs to the model"
        )


def check_unit(boxes: FloatArray, instead: str = "", *, fractions: bool) -> None:
    """That boxes `(N, 4)` of a warm-up run have the expected unit, which those of any picture tell.

    Rows of zeros and of broken numbers tell nothing. `instead` is what to write, where `{seen}` is the other unit.

    Raises:
        ModelError: most boxes look to be in the other unit, or in neither.
    """
    reach = np.abs(boxes).max(axis=1).astype(np.float64)  # two huge float32 have no mean
    reach = reach[np.isfinite(reach) & (reach > 0)]
    if not reach.size:
        return
    median = float(np.median(reach))
    said = "normalised" if fractions else "pixels"
    problem = f"half of the boxes, which should be {said}, reach {median:.4g} or more"
    if _FRACTION_MOST < median < _PIXELS_LEAST:
        raise unexpected(f"{problem}, which is neither normalised nor pixels")
    if (median <= _FRACTION_MOST) != fractions:
        seen = "pixels" if fractions else "normalised"
        raise unexpected(f"{problem}: they look {seen}", instead.format(seen=seen))
