"""The model card, written from what was measured."""

import hashlib
from pathlib import Path
from string import Template
from typing import Any

_CARD = Template("""\
# Model card: bottles

Finds bottles, and what may be wrong with them, in pictures of edge-agent's own simulated line
(`edge_agent/cameras/simulator`). It is there for the demo, for tests and as an example of a model that the agent runs:
**for nothing else**.

| | |
|---|---|
| files | `bottles.tflite`: int8 throughout, $tflite_kb KB, SHA-256 `$tflite_sha`<br>`bottles.onnx`: float32, $onnx_kb KB, SHA-256 `$onnx_sha` |
| classes | $labels (`labels.txt`, and in both files) |
| input | 416x256 (width x height), RGB 0..1, letterboxed; made for frames of 1280x720 |
| output | `[1, 9, 2184]`, as Ultralytics' exports have it: centre x, centre y, width, height, and a score for each class. Boxes are in pixels of the input in ONNX, in fractions of it in TFLite |
| net | anchor-free, $parameters parameters; convolutions, ReLU, sums; strides 8, 16 and 32 |
| licence | Apache-2.0, as the project. No other weights, pictures or code went into it |

## How it was made

`python -m tools.demo_model`, in the project's repository. It has seen $seen pictures, of
$drawn different ones (lines with the seeds from $training on), in $minutes minutes of CPU training in float32. The scales of
int8 come from 256 pictures of other lines (seeds from $calibration on). Lines of every kind: defects in half to 90 % of the
bottles, cracks at 40 to 100 % contrast, noise, motion blur up to 7 px, drifting light, clutter, touching bottles, both
directions.

## How good it is

Mean average precision on $pictures pictures each of lines that training has not seen (seeds from $validation on), by the agent's own
engine and decoder. *Usual* lines are those of the demo, with a defect in every second bottle; *hard* ones are as for
training. Things less than 35 % inside the picture are not asked for.

$table

Of one frame: the agent looks at each bottle in several.

## What it cannot do

- Real pictures. It has seen nothing but this drawing, and knows neither real glass nor real light.
- Other sizes and other sides: a bottle must be about as large in the frame as the simulator draws it, and stand upright.
- Cracks that come out smaller than about 10 px at the input's size (30 px of a frame of 1280x720); the simulator draws none.
- Tell how far a label is turned: straight is up to 1.5 degrees, misaligned from 8; between them it has seen nothing.
- Frames that are dark, out of focus or shaken: camera health is what judges those.
- Boxes to the pixel in int8: all columns of the output share one scale, whose step is about 5 px of a frame's width.

`golden/` has $golden pictures, and in `expected.json` what both files find in them.
""")


def write(folder: Path, labels: tuple[str, ...], facts: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """`MODEL_CARD.md`, and `labels.txt`. `results` by file name and kind of line; `facts` fill the rest of the card."""
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    files = {suffix: folder / f"bottles.{suffix}" for suffix in ("onnx", "tflite")}
    digests = {f"{key}_sha": hashlib.sha256(file.read_bytes()).hexdigest() for key, file in files.items()}
    sizes = {f"{key}_kb": f"{file.stat().st_size / 1000:,.0f}" for key, file in files.items()}
    words = {"labels": ", ".join(f"`{label}`" for label in labels), "table": _table(labels, results)}
    pictures = next(iter(next(iter(results.values())).values()))["pictures"]
    card = _CARD.substitute(**digests, **sizes, **words, **facts, pictures=pictures)
    (folder / "MODEL_CARD.md").write_text(card)


def _table(labels: tuple[str, ...], results: dict[str, dict[str, Any]]) -> str:
    """A row for each class, two columns for each file and kind of line."""
    columns = [(name, kind) for kind in next(iter(results.values())) for name in results]
    precision = {"bottles.onnx": "FP32", "bottles.tflite": "INT8"}
    head = "".join(f" {kind}, {precision[name]} |" for name, kind in columns)
    lines = [f"| mAP50 / mAP50-95 |{head}", "|---|" + "---|" * len(columns)]
    for label in ("all", *labels):
        found = [
            results[name][kind] if label == "all" else results[name][kind]["classes"][label] for name, kind in columns
        ]
        lines.append(f"| {label} |" + "".join(f" {row['map50']:.3f} / {row['map50_95']:.3f} |" for row in found))
    return "\n".join(lines)
