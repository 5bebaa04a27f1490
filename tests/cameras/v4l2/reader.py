"""Reads a camera and tells about it, one JSON document a line: run with a configuration in JSON and a count."""

import json
import sys
import time
from contextlib import closing

from edge_agent.cameras.opencv import Config, create
from edge_agent.errors import BadFrameError, EdgeAgentError


def seen(frame, now_ns):
    """A frame in plain values; the pixel is the one in the middle."""
    told = {"seq": frame.seq, "size": frame.size, "age_ms": (now_ns - frame.captured_ns) / 1e6}
    try:
        image = frame.image
    except BadFrameError as error:
        return told | {"bad": str(error)}
    pixel = image[image.shape[0] // 2, image.shape[1] // 2]
    return told | {"shape": image.shape, "pixel": pixel.tolist(), "writeable": image.flags.writeable}


def read(camera, count):
    """All frames first, and then their pixels, so that one kept in borrowed memory would show."""
    frames, trouble = [], {}
    try:
        for _ in range(count):
            frames.append(camera.read(2))  # noqa: PERF401 - those before an error count
    except EdgeAgentError as error:
        trouble = {"error": type(error).__name__, "message": str(error)}
    now_ns = time.monotonic_ns()
    return [seen(frame, now_ns) for frame in frames], trouble


def main():
    """The frames, then what the driver says of the device, and what ended it."""
    try:
        camera = create(Config(**json.loads(sys.argv[1])))
    except EdgeAgentError as error:
        sys.stdout.write(json.dumps({"frames": [], "error": type(error).__name__, "message": str(error)}))
        return
    with closing(camera):
        frames, trouble = read(camera, int(sys.argv[2]))
        sys.stdout.write(
            json.dumps({"frames": frames, "given": dict(camera.given), "refused": dict(camera.refused)} | trouble)
        )


if __name__ == "__main__":
    main()
