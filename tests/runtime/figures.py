"""Figures for Prometheus as its own library reads them, and what `promtool check metrics` would say of them."""

import math
import re

from prometheus_client.parser import text_string_to_metric_families

NAME = re.compile(r"edge_agent_[a-z][a-z0-9_]*")
ABBREVIATED = re.compile(r"_(ms|us|ns|mb|kb|gb|mhz|ghz|hz|pct|percent|sec|secs|min|celcius)(_|$)")
OWN = {"_bucket", "_sum", "_count", "_total", "_info"}


class Figures:
    """What a text says: `figures("verdicts_total", verdict="pass")`, without the prefix and the device."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]
        self._values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in self.samples}
        self.text = text

    def __call__(self, name: str, /, device: str = "cap-01", **labels: str) -> float | None:
        """The value; None where there is no such sample."""
        return self._values.get((f"edge_agent_{name}", frozenset({"device": device, **labels}.items())))

    def labels(self, name: str) -> list[dict[str, str]]:
        """Of each sample of that name, without the device."""
        found = [sample.labels for sample in self.samples if sample.name == f"edge_agent_{name}"]
        return [{key: value for key, value in labels.items() if key != "device"} for labels in found]

    def faults(self) -> list[str]:
        """What is against the conventions, in words."""
        found = (
            [f"{len(self.samples) - len(self._values)} samples twice"] if len(self.samples) > len(self._values) else []
        )
        heads = re.findall(r"(?m)^# (?:TYPE|HELP) (\S+)", self.text)
        found += [f"{name}: not one HELP and one TYPE" for name in set(heads) if heads.count(name) != 2]
        for family in self.families.values():
            found += self._faults_of(family)
        return found

    def _faults_of(self, family):
        if not NAME.fullmatch(family.name) or ABBREVIATED.search(family.name):
            yield f"{family.name}: not a name with a base unit"
        if not family.documentation.endswith("."):
            yield f"{family.name}: no sentence of help"
        if family.type == "gauge" and family.name.endswith(("_total", "_count", "_sum", "_bucket")):
            yield f"{family.name}: a gauge with the name of something else"
        for sample in family.samples:
            if not sample.labels.get("device"):
                yield f"{sample.name}: no device"
            if math.isnan(sample.value):
                yield f"{sample.name}: not a number"
            if family.type == "counter" and sample.name != f"{family.name}_total":
                yield f"{sample.name}: a counter without _total"
