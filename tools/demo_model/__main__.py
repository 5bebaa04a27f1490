"""`python -m tools.demo_model`: everything, or one step of it."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help=__doc__, no_args_is_help=False, add_completion=False)

INTO = Path(__file__).resolve().parents[2] / "edge_agent" / "demo_model"
Work = Annotated[
    Path, typer.Option(help="Where pictures (4 GB) and checkpoints are kept; a cut run goes on from there.")
]
Into = Annotated[Path, typer.Option(help="Where the model goes.")]
_WORK = Path("build/demo_model")
_THREADS = len(os.sched_getaffinity(0))


@app.callback(invoke_without_command=True)
def everything(
    context: typer.Context,
    *,
    work: Work = _WORK,
    into: Into = INTO,
    steps: Annotated[int, typer.Option(help="Of 16 pictures each.")] = 2000,
    minutes: Annotated[float, typer.Option(help="Training ends after so long; sooner is what --steps says.")] = 45,
    lines: Annotated[int, typer.Option(help="Simulated lines to draw, 8 pictures of each.")] = 1500,
) -> None:
    """Draws, trains, exports, evaluates, and writes card and golden set."""
    if context.invoked_subcommand is None:
        train(work=work, steps=steps, minutes=minutes, lines=lines)
        export(work=work, into=into)


@app.command()
def train(
    *, work: Work = _WORK, steps: int = 2000, minutes: float = 45, lines: int = 1500, threads: int = _THREADS
) -> None:
    """Draws the pictures and trains the net on them. Where others use the cores too, one thread is faster than two."""
    from tools.demo_model.cache import cached
    from tools.demo_model.train import BATCH, Plan, Training

    pictures, objects = cached(work, lines)
    training = Training(Plan(steps, minutes, threads), work / "checkpoint.pt")
    training.run(pictures, objects, lambda step, scores, boxes: typer.echo(f"step {step}: {scores:.3f} {boxes:.3f}"))
    facts = {
        "seen": f"{training.step * BATCH:,}",
        "drawn": f"{len(pictures):,}",
        "minutes": round(training.spent_s / 60),
    }
    (work / "facts.json").write_text(json.dumps(facts))


@app.command()
def export(*, work: Work = _WORK, into: Into = INTO, lines: int = 50) -> None:
    """Writes both files, the card with what they can do, and the golden set."""
    from edge_agent.cameras.simulator import LABELS
    from tools.demo_model import card, golden, pictures
    from tools.demo_model.evaluate import KINDS, evaluate
    from tools.demo_model.export import write_onnx, write_tflite
    from tools.demo_model.train import trained

    into.mkdir(parents=True, exist_ok=True)
    net = trained(work / "checkpoint.pt")
    models = [into / "bottles.onnx", into / "bottles.tflite"]
    write_onnx(net, models[0])
    write_tflite(net, models[1])
    results = {model.name: {kind: evaluate(model, kind, lines) for kind in KINDS} for model in models}
    (work / "results.json").write_text(json.dumps(results, indent=1))
    facts: dict[str, Any] = json.loads((work / "facts.json").read_text())
    facts |= {
        "parameters": f"{sum(weight.numel() for weight in net.parameters()):,}",
        "training": f"{pictures.TRAINING:,}",
        "calibration": f"{pictures.CALIBRATION:,}",
        "validation": f"{pictures.VALIDATION:,}",
        "golden": golden.PICTURES,
    }
    card.write(into, LABELS, facts, results)
    golden.write(into / "golden", models)
    typer.echo(json.dumps(results, indent=1))


@app.command("evaluate")
def evaluate_file(model: Path, *, kind: str = "usual", lines: int = 50) -> None:
    """Shows the mean average precision of a file, on `usual` lines or on `hard` ones."""
    from tools.demo_model.evaluate import evaluate

    typer.echo(json.dumps(evaluate(model, kind, lines), indent=1))


@app.command("self-check")
def self_check() -> None:
    """Checks the recipe in a few minutes: assignment, loss, learning, fusing and both exports."""
    from tools.demo_model.self_check import main

    main()


if __name__ == "__main__":
    app()
