"""`edge-agent schema`: the JSON Schema of the configuration and of every message."""

import json
from typing import Annotated

import typer

from edge_agent.errors import UsageError

EPILOG = "Example: edge-agent schema verdict > verdict.schema.json"


def schema(name: Annotated[str, typer.Argument(help="`config`, or a message; all of them if not given.")] = "") -> None:
    """Print JSON Schema."""
    from pydantic import BaseModel

    from edge_agent.config import AgentConfig
    from edge_agent.wire.messages import ANSWERS, MESSAGES

    models: dict[str, type[BaseModel]] = {"config": AgentConfig, **MESSAGES, **ANSWERS}
    if name and name not in models:
        raise UsageError(f"there is no schema {name!r}; there are {', '.join(models)}")
    schemas = {
        key: model.model_json_schema(mode="validation" if key == "config" else "serialization")
        for key, model in models.items()
        if name in ("", key)
    }
    typer.echo(json.dumps(schemas[name] if name else schemas, indent=2))
