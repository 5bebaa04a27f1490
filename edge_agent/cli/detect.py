"""`edge-agent detect`: one-off detection on pictures, folders and videos."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_agent.errors import ConfigError, UsageError

EPILOG = "Example: edge-agent detect --model yolo11n.tflite --annotate out photos/"


def detect(  # noqa: PLR0913 - a command's options
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Pictures, folders or videos.")],
    model: Annotated[Path, typer.Option("--model", "-m", metavar="PATH", help="The model file.")],
    *,
    backend: Annotated[str, typer.Option(metavar="auto|tflite|onnx|tensorrt", help="The engine.")] = "auto",
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names, one per line.")] = None,
    conf: Annotated[float, typer.Option(min=0, max=1, help="Keep detections with a score above.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Of two that overlap more, keep one.")] = 0.7,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    annotate: Annotated[Path | None, typer.Option(metavar="DIR", help="Write pictures with boxes here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line per frame.")] = False,
) -> None:
    """Find things in pictures."""
    from edge_agent import logs
    from edge_agent.app.detect import Request, detect_all
    from edge_agent.core.datatypes import Thresholds

    logs.configure("warning")
    request = Request(model, backend, labels, threads, Thresholds(conf, iou), annotate)
    try:
        for found in detect_all(request, sources):
            typer.echo(json.dumps(found) if as_json else _in_words(found))
    except ConfigError as error:  # there is no configuration here: what is wrong is what the command was given
        raise UsageError(str(error)) from None


def _in_words(found: dict[str, Any]) -> str:
    things = ", ".join(f"{item['label']} {item['score']:.2f}" for item in found["detections"]) or "nothing"
    return f"{found['source']}#{found['frame']}: {things} ({sum(found['timings_ms'].values()):.1f} ms)"
