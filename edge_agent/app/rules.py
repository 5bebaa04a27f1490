"""What the configuration expects of the model and the model cannot give: rules that could never object."""

import difflib
from collections.abc import Iterator

from edge_agent.config import LineTrigger, Loaded, Problem
from edge_agent.core.datatypes import ModelSpec


def mismatches(loaded: Loaded, model: ModelSpec, decoder_kind: str) -> list[Problem]:
    """Labels that the model does not have, and lines that nothing of it can cross."""
    problems = unknown_labels(loaded, model)
    if decoder_kind == "classifier":
        why = 'the model is a classifier: it gives the whole picture a label, and nothing crosses a line; write kind = "frame"'
        lines = (i for i, camera in enumerate(loaded.config.cameras) if isinstance(camera.trigger, LineTrigger))
        problems += [loaded.problem(("cameras", index, "trigger", "kind"), why) for index in lines]
    return problems


def unknown_labels(loaded: Loaded, model: ModelSpec) -> list[Problem]:
    """Every label of a trigger or a rule that is not one of the model's."""
    return [
        loaded.problem(key, f"the model has no label {label!r}{_hint(label, model.labels)}")
        for key, label in _labels(loaded)
        if label not in model.labels
    ]


def _labels(loaded: Loaded) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each label with the path of its key."""
    for index, camera in enumerate(loaded.config.cameras):
        if isinstance(camera.trigger, LineTrigger):
            yield from ((("cameras", index, "trigger", "parts"), label) for label in camera.trigger.parts)
        for number, rule in enumerate(camera.rules):
            for key, labels in rule.labels.items():
                yield from ((("cameras", index, "rules", number, key), label) for label in labels)


def _hint(label: str, known: tuple[str, ...]) -> str:
    if known and known[0] == "class_0":
        return ", because nothing names its classes: write labels = FILE under [model]"
    close = difflib.get_close_matches(label, known, n=1)
    shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")  # noqa: PLR2004 - a line's worth
    return f"; did you mean {close[0]!r}?" if close else f"; it has {shown}"
