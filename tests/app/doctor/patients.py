"""Installations to look at, and one check's findings on them."""

import os
from pathlib import Path

import pytest

from edge_agent.app import instances
from edge_agent.app.doctor import CHECKS, _look, look_around
from edge_agent.app.doctor.who import Who
from edge_agent.catalogue import lookup
from edge_agent.hardware.probe import LIVE
from tests.system.agents import config_text, replay

NOBODY = Who("nobody", 65534, 65534, frozenset({65534}))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")


def findings(context, name):
    """What the check of that name finds. Each fix is one line, and what it has explained is in the catalogue."""
    (check,) = (check for check in CHECKS if check.name == name)
    found = list(_look(context, check))
    for finding in found:
        assert (finding.fix is None) == (finding.level in ("ok", "skip")), finding
        assert "\n" not in f"{finding.evidence}{finding.fix}", finding
        if finding.fix and finding.fix.startswith("edge-agent explain "):
            lookup(finding.fix.split()[2].rstrip(","))
    return found


def finding(context, name):
    """The only one."""
    (found,) = findings(context, name)
    return found


def board(root: Path):
    """A copied tree."""
    return look_around(None, root)


def installation(folder: Path, text: str, *, is_right: bool = True, **options):
    """A configuration in a folder, as `edge-agent doctor --config` looks at it."""
    path = folder / "agent.toml"
    path.write_text(text)
    context = look_around(instances.find(str(path)), LIVE, **options)
    assert (context.loaded is not None) == is_right, context.problems
    return context


def simple(folder: Path, *, port: int = 1, cameras: str = "", more: str = "", model: object = "model.tflite") -> str:
    """One replayed camera, and a broker on this port."""
    (folder / "photos").mkdir(exist_ok=True)
    return config_text(model=model, cameras=cameras or replay(folder / "photos"), port=port) + more


def device(source: object, more: str = "") -> str:
    """A V4L2 camera that triggers on every frame."""
    return f'[[cameras]]\nid = "top"\nkind = "opencv"\nsource = "{source}"\n{more}\n[cameras.trigger]\nkind = "frame"\n'
