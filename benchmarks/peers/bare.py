"""The engine and nothing else, in turns: reads a number of seconds from standard input, and runs for so long.

    echo 1 | python -m benchmarks.peers.bare --model yolo.tflite --head yolo --frames FOLDER

Answers with one line of JSON: the milliseconds of each run. The inputs are the real pictures; handing them over is not
counted.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.peers.line import HEADS, pictures
from benchmarks.peers.plain_loop import open_engine, prepare


def main() -> None:
    """Runs until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--head", choices=HEADS, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    wish = parser.parse_args()
    engine = open_engine(wish.model, wish.threads)
    blobs = [prepare(image, engine.size, wish.head)[0] for image in pictures(wish.frames)]
    for line in sys.stdin:
        until_s, runs_ms = time.monotonic() + float(line), list[float]()
        while time.monotonic() < until_s or not runs_ms:
            engine.feed(blobs[len(runs_ms) % len(blobs)])
            runs_ms.append(engine.run())
        print(json.dumps(runs_ms), flush=True)


if __name__ == "__main__":
    main()
