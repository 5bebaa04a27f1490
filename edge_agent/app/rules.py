"""Rules that could never object: their labels are not the model's, or their scores never reach them."""

import difflib
from collections.abc import Iterator

from edge_agent.config import LineTrigger, Loaded, Problem
from edge_agent.core.datatypes import ModelSpec


def unknown_labels(loaded: Loaded, model: ModelSpec) -> list[Problem]:
    """Every label of a trigger or a rule that is not one of the model's."""
    return [
        loaded.problem(key, f"the model has no label {label!r}{_hint(label, model.labels)}")
        for key, label in _labels(loaded)
        if label not in model.labels
    ]


def blind_rules(loaded: Loaded) -> list[Problem]:
    """Rules that look for scores which `model.conf` has dropped before."""
    conf = loaded.config.model.conf
    return [
        loaded.problem(
            ("cameras", index, "rules", number),
            f"unsure_score {rule.unsure_score:g} is below model.conf {conf:g}: such detections are dropped before the "
            "rule sees them; lower conf, or raise unsure_score",
        )
        for index, camera in enumerate(loaded.config.cameras)
        for number, rule in enumerate(camera.rules)
        if getattr(rule, "unsure_score", conf) < conf
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
    close = difflib.get_close_matches(label, known, n=1)
    shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")  # noqa: PLR2004 - a line's worth
    return f"; did you mean {close[0]!r}?" if close else f"; it has {shown}"
