"""The model that comes with the agent, for its demo and its tests: see `edge_agent/demo_model/MODEL_CARD.md`."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "demo_model"
"""`bottles.tflite`, `bottles.onnx`, `labels.txt`, the card and the golden set."""

TFLITE, ONNX = FOLDER / "bottles.tflite", FOLDER / "bottles.onnx"
