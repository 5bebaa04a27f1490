"""`edge-agent detect`: one-off detection on pictures, folders and videos."""

import json
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.model import progress_shown
from edge_agent.errors import ConfigError, TransientError, UsageError

if TYPE_CHECKING:
    from edge_agent.app.detect import Job

EPILOG = "Example: edge-agent detect --model yolo11n.tflite --annotate out photos/"

ANNOTATE = (
    "Write pictures with boxes here: NAME.jpg, of a video NAME-000012.jpg; where sources share a NAME, "
    "those after the first get -2, -3, ... in their order."
)
DECODER = 'How to read the model, as in the table model.decoder: \'kind = "ssd", input = "pixels"\'.'


def detect(  # noqa: PLR0913 - a command's options
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Pictures, folders or videos.")],
    model: Annotated[Path, typer.Option("--model", "-m", metavar="PATH", help="The model file.")],
    *,
    backend: Annotated[
        str, typer.Option(metavar="auto|tflite|onnx|tensorrt", help="The engine; tensorrt: built from an ONNX first.")
    ] = "auto",
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Names: a text file or a .pbtxt.")] = None,
    decoder: Annotated[str | None, typer.Option(metavar="TOML", help=DECODER)] = None,
    conf: Annotated[float, typer.Option(min=0, max=1, help="Keep detections with a score above.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Of two that overlap more, keep one.")] = 0.7,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine.")] = None,
    annotate: Annotated[Path | None, typer.Option(metavar="DIR", help=ANNOTATE)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line per frame.")] = False,
) -> None:
    """Find things in pictures."""
    from edge_agent import logs
    from edge_agent.app.detect import Job, Request, decoder_of
    from edge_agent.core.datatypes import Thresholds

    logs.configure("warning")
    chosen = None if decoder is None else decoder_of(decoder)
    job = Job(Request(model, backend, labels, threads, Thresholds(conf, iou), annotate, chosen), sources)
    try:
        if (builder := job.builder()) is not None:
            with progress_shown(as_json=False) as show:
                builder.run(show)
        with closing(_followed(job, as_json=as_json)) as records:
            for found in records:
                typer.echo(json.dumps(found) if as_json else _in_words(found))
    except (ConfigError, TransientError) as error:  # without a configuration it is what the command was given
        raise UsageError(str(error)) from None
    finally:
        for complaint in job.complaints:
            typer.echo(f"edge-agent: {complaint}", err=True)


def _followed(job: "Job", *, as_json: bool) -> Generator[dict[str, Any], None, None]:
    """The job's records, with a bar on stderr where a person waits there and no JSON runs over the same screen."""
    results_shown = os.isatty(1)
    if not job.is_long or not os.isatty(2) or (as_json and results_shown):
        yield from job.records()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=results_shown) as bar:
        task = bar.add_task("loading the model", total=None)
        for record in job.records():
            yield record
            bar.update(task, description=job.source, completed=job.done, total=job.total)


def _in_words(found: dict[str, Any]) -> str:
    things = ", ".join(f"{item['label']} {item['score']:.2f}" for item in found["detections"]) or "nothing"
    return f"{found['source']}#{found['frame']}: {things} ({sum(found['timings_ms'].values()):.1f} ms)"
