"""The camera's own memory, lent to whoever looks at a picture, and given back when nobody does any more."""

import weakref
from collections import deque
from typing import Any

import numpy as np

from edge_agent.core.datatypes import Array, Image
from edge_agent.errors import CameraLostError


class Buffers:
    """Lends the pictures of completed requests without a copy.

    A picture that is let go may be so in any thread and at any moment, also in one of Picamera2's own while it holds
    its lock: so what comes back is only noted, and handed to the camera by `give_back`, which the reading thread calls.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._returned: deque[tuple[Any, Any]] = deque()

    def lend(self, request: Any) -> Image:
        """The picture of a `CompletedRequest`, `(H, W, 3) uint8` BGR, read-only; rows may have padding between them.

        Picamera2's format RGB888 lies in memory as B, G, R.

        Raises:
            CameraLostError: the camera gives another format.
        """
        main = request.config["main"]
        if main["format"] != "RGB888":
            raise CameraLostError(f"the camera gives {main['format']} where RGB888 was asked for")
        mapped = self._library.MappedArray(request, "main", reshape=False, write=False)
        mapped.__enter__()
        (width, height), stride = main["size"], main["stride"]
        pixels = mapped.array[: height * stride].reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)
        loan = _Loan(pixels)
        weakref.finalize(loan, self._returned.append, (mapped, request)).atexit = False
        return np.asarray(loan)

    def give_back(self) -> None:
        """Hands the camera what nobody looks at any more."""
        while self._returned:
            mapped, request = self._returned.popleft()
            mapped.__exit__(None, None, None)
            request.release()


class _Loan:
    """What every view of one picture hangs on: numpy keeps it as long as there is one."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, pixels: Array) -> None:
        interface = pixels.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], True)}  # True: read-only
