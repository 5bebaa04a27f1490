"""`edge-agent schema`: the JSON Schema of the configuration and of every message."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge_agent.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

EPILOG = "Example: edge-agent schema verdict > verdict.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(
    name: Annotated[str, typer.Argument(help="`config`, or a message; all of them if not given.")] = "",
    *,
    write: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files NAME.json into this folder instead.")
    ] = None,
) -> None:
    """Print JSON Schema."""
    schemas = json_schemas()
    if name and name not in schemas:
        raise UsageError(f"there is no schema {name!r}; there are {', '.join(schemas)}")
    if write is not None:
        _write({name: schemas[name]} if name else schemas, write)
    else:
        typer.echo(json.dumps(schemas[name] if name else schemas, indent=2))


def _write(schemas: dict[str, dict[str, Any]], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in schemas.items():
            (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None


def json_schemas() -> dict[str, dict[str, Any]]:
    """All, by name: what a configuration and the messages of others may be, and what the agent's own messages are."""
    from edge_agent.config import AgentConfig
    from edge_agent.wire.inbound import Ack, Trigger
    from edge_agent.wire.messages import MESSAGES

    sent = {name: _json_schema(name, model, "serialization") for name, model in MESSAGES.items()}
    for document in sent.values():
        document["required"].insert(0, "schema")  # it has a default in the code, but no message goes without it
    accepted: dict[str, type[BaseModel]] = {"trigger": Trigger, "ack": Ack}
    return {
        "config": _json_schema("config", AgentConfig, "validation"),
        **sent,
        **{name: _json_schema(name, model, "validation") for name, model in accepted.items()},
    }


def _json_schema(name: str, model: "type[BaseModel]", mode: Literal["serialization", "validation"]) -> dict[str, Any]:
    field = model.model_fields.get("schema_")
    title = field.default if field else f"edge-agent/{name}"
    head = {"$schema": _DIALECT, "$id": f"urn:{title.replace('/', ':')}", "title": title}
    return {**head, **model.model_json_schema(mode=mode), "title": title}
