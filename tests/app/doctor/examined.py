"""Looks at an installation in a process of its own: `python -m tests.app.doctor.examined FILE CHECK...`, a line for each finding."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from edge_agent.app import instances
from edge_agent.app.doctor import look_around
from tests.app.doctor.patients import findings


def main():
    """In the order of the checks."""
    context = look_around(instances.find(sys.argv[1]), Path("/"))
    for name in sys.argv[2:]:
        for found in findings(context, name):
            sys.stdout.write(json.dumps({"check": name, **asdict(found)}) + "\n")


main()
