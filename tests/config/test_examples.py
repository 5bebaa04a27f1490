import re

import pytest

from edge_agent.app.check import check
from edge_agent.config import load
from tests.fixtures import REPO

ARM = REPO / "examples" / "reject-arm.toml"  # not an agent's: see tests/actuator/test_settings.py
EXAMPLES = sorted(path for path in (REPO / "examples").glob("*.toml") if path != ARM)
RUNNABLE = [path for path in EXAMPLES if load(path).config.model.path.is_file()]
WANTED = {
    "photos",
    "usb-camera-line",
    "rtsp",
    "csi-jetson",
    "two-cameras",
    "tls-broker",
    "simulator",
    "stdout",
    "raspberry-pi-camera",
    "external-trigger",
    "gpio-trigger",
}


def _name(path):
    return path.stem


def test_there_is_an_example_for_each_situation():
    assert {path.stem for path in EXAMPLES} == WANTED


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_loads(path):
    assert load(path).config.cameras


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_says_first_what_it_shows(path):
    assert re.match(r"# \S.{40}", path.read_text())


@pytest.mark.parametrize("path", EXAMPLES, ids=_name)
def test_an_example_that_needs_a_model_of_its_own_says_so(path):
    says_so = "a model of your own" in path.read_text()
    assert says_so == (path not in RUNNABLE)


@pytest.mark.parametrize("path", [path for path in RUNNABLE if path.stem != "tls-broker"], ids=_name)
def test_an_example_whose_model_is_here_passes_the_check(path):
    _, problems = check(path)
    assert problems == []


def test_the_example_with_tls_lacks_only_the_secrets_and_certificates():
    loaded, problems = check(REPO / "examples" / "tls-broker.toml")
    assert loaded is not None
    assert [problem.key for problem in problems] == ["mqtt.password_file", "mqtt.tls.ca"]


def test_all_examples_are_listed_in_the_documentation():
    listed = set(re.findall(r"examples/([a-z-]+)\.toml", (REPO / "docs" / "configuration.md").read_text()))
    assert listed == WANTED
