"""Whether a camera still looks at what it was set up for: its picture beside the one of its baseline.

Compared are the edges of each tile, by the correlation of gradients: light that changes does not matter, and neither
do things that pass or stand in a part of the picture, because tiles are counted, not averaged. A camera that was moved
by a hundredth of the picture matches in hardly any tile.
"""

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Image
from edge_agent.core.eyesight import TILE

ENOUGH_TILES = 12
"""With edges in fewer tiles than this nothing is said: one thing that stands before them would hide them all."""

_EDGE = 16.0  # levels², mean over a tile
_ALIKE = 0.5  # correlation; measured: same scene 0.9 and more, a hundredth of the width further 0.1 to 0.3
_HALF = 0.5  # of a tile must be steady, or it is left out
_IN_TILES = "aibj,aibj->ab"


class Scene:
    """What the camera should see.

    Args:
        plane: `(H, W) uint8`, as in `Look.plane`.
        steady: `(H, W) bool`, where nothing moves.
    """

    def __init__(self, plane: Image, steady: Array) -> None:
        self._shape = plane.shape
        self._directions = [_Direction(plane, steady, axis) for axis in (0, 1)]
        self.tiles = max((direction.count for direction in self._directions), default=0)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough edges that stand still."""
        return self.tiles >= ENOUGH_TILES

    def in_place(self, plane: FloatArray) -> float | None:
        """The share of tiles that look as they should, 0 to 1; None where that cannot be told.

        Edges that run across and edges that run down are counted apart and the lower share stands: rails along the
        belt look the same however far the camera was pushed along them.
        """
        if plane.shape != self._shape:
            return None
        told = [one.in_place(plane) for one in self._directions if one.count >= ENOUGH_TILES]
        return min(told, default=None)


class _Direction:
    """The gradients along one axis, by tiles."""

    def __init__(self, plane: Image, steady: Array, axis: int) -> None:
        self._axis = axis
        valid = steady & np.roll(steady, -1, axis)
        self._valid = _tiles(valid.astype(np.float32))
        self._wanted = self._gradients(plane.astype(np.float32))
        self._energy = np.einsum(_IN_TILES, self._wanted, self._wanted)
        weight = np.einsum("aibj->ab", self._valid)
        self._used = (self._energy > _EDGE * np.maximum(weight, 1)) & (weight >= _HALF * TILE * TILE)
        self.count = int(self._used.sum())

    def in_place(self, plane: FloatArray) -> float:
        seen = self._gradients(plane)
        both = np.einsum(_IN_TILES, seen, self._wanted)
        alone = np.einsum(_IN_TILES, seen, seen) * self._energy
        alike = both > _ALIKE * np.sqrt(alone)
        return float(np.count_nonzero(alike & self._used) / self.count)

    def _gradients(self, levels: FloatArray) -> FloatArray:
        gradients = np.zeros_like(levels)
        if self._axis:
            gradients[:, :-1] = levels[:, 1:] - levels[:, :-1]
        else:
            gradients[:-1] = levels[1:] - levels[:-1]
        return _tiles(gradients) * self._valid


def _tiles(plane: FloatArray) -> FloatArray:
    """`(rows, 8, columns, 8)`; what is left over at the right and below is left out."""
    rows, columns = plane.shape[0] // TILE, plane.shape[1] // TILE
    return plane[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
