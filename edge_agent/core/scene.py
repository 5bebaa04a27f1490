"""Whether a camera still looks at what it was set up for: its picture beside the one of its baseline.

Compared are the edges of each tile, by the correlation of gradients: light that changes does not matter, and neither
do things that pass or stand in a part of the picture, because tiles are counted, not averaged. A camera that was moved
by a hundredth of the picture matches in hardly any tile.
"""

from functools import lru_cache

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Image
from edge_agent.core.eyesight import TILE
from edge_agent.core.scratch import scratch

ENOUGH_TILES = 12
"""With edges in fewer tiles than this nothing is said: one thing that stands before them would hide them all."""

_EDGE = 16.0  # levels², mean over a tile
_ALIKE = 0.5  # correlation; measured: same scene 0.9 and more, a hundredth of the width further 0.1 to 0.3
_HALF = 0.5  # of a tile must be steady, or it is left out
_REACH = 8  # the scene is searched for up to an eighth of the picture away


class Scene:
    """What the camera should see.

    Args:
        plane: `(H, W) uint8`, as in `Look.plane`.
        steady: `(H, W) bool`, where nothing moves.
    """

    def __init__(self, plane: Image, steady: Array) -> None:
        self._shape = plane.shape
        self._directions = [_Direction(plane, steady, axis) for axis in (0, 1)]
        self._spectrum = np.conj(np.fft.fft2(_both(*(one.wanted for one in self._directions))))
        self.tiles = max(direction.count for direction in self._directions)

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

    def elsewhere(self, plane: FloatArray) -> float:
        """The share that would be in place if the picture were pushed to where it fits best; 0 where that is here.

        It is an eighth of the picture away at most. The plane must have the scene's shape.
        """
        seen = np.fft.fft2(_both(_gradients(plane, 0), _gradients(plane, 1)))
        fit = np.fft.ifft2(seen * self._spectrum).real
        down, across = (np.arange(-(length // _REACH), length // _REACH + 1) for length in plane.shape)
        near = fit[np.ix_(down, across)]
        best = np.unravel_index(int(near.argmax()), near.shape)
        push = (-int(down[best[0]]), -int(across[best[1]]))
        if push == (0, 0):
            return 0.0
        return self.in_place(np.roll(plane, push, (0, 1))) or 0.0


class _Direction:
    """The gradients along one axis, by tiles."""

    def __init__(self, plane: Image, steady: Array, axis: int) -> None:
        self._axis = axis
        valid = steady & np.roll(steady, -1, axis)
        valid.swapaxes(0, axis)[-1] = False
        self._valid = valid.astype(np.float32)
        self.wanted = _gradients(plane.astype(np.float32), axis) * self._valid
        self._energy = _tile_sums(self.wanted * self.wanted)
        weight = _tile_sums(self._valid)
        self._used = (self._energy > _EDGE * np.maximum(weight, 1)) & (weight >= _HALF * TILE * TILE)
        self.count = int(self._used.sum())

    def in_place(self, plane: FloatArray) -> float:
        seen, product = scratch()[:2, : plane.size].reshape(2, *plane.shape)
        _gradients(plane, self._axis, out=seen)
        both = _tile_sums(np.multiply(seen, self.wanted, out=product))
        seen *= self._valid
        alone = _tile_sums(np.multiply(seen, seen, out=product)) * self._energy
        alike = both > _ALIKE * np.sqrt(alone)
        return float(np.count_nonzero(alike & self._used) / self.count)


def _gradients(levels: FloatArray, axis: int, out: FloatArray | None = None) -> FloatArray:
    """The steps to the next row, or column. Worked on as one row, where numpy is fast; what runs over an end is no step."""
    flat, step = levels.ravel(), 1 if axis else levels.shape[1]
    gradients = np.empty(levels.shape, np.float32) if out is None else out
    steps = gradients.ravel()  # a view: both are contiguous
    np.subtract(flat[step:], flat[:-step], out=steps[:-step])
    steps[-step:] = 0
    return gradients


def _both(down: FloatArray, across: FloatArray) -> Array:
    """As one plane of complex numbers: one transform does for the two."""
    return down + 1j * across


def _tile_sums(plane: FloatArray) -> FloatArray:
    """`(rows, columns)` of tiles; what is left over at the right and below is left out."""
    height, width = plane.shape
    sums: FloatArray = _summing(height).T @ plane @ _summing(width)
    return sums


@lru_cache(maxsize=64)
def _summing(length: int) -> FloatArray:
    """`(length, tiles)`: a product with it adds up each tile, far faster than reshaping and summing."""
    adding = np.zeros((length, length // TILE), np.float32)
    for tile in range(length // TILE):
        adding[tile * TILE : (tile + 1) * TILE, tile] = 1
    return adding
