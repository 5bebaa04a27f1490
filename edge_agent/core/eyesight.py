"""What one picture looks like, in a handful of numbers: cheap enough for every frame, whatever its size.

Brightness, contrast and structure come from a plane, the green of every n-th pixel. Focus cannot be seen there, so
sharpness comes from small blocks in full resolution, spread over the picture.

Noise must not pass for sharpness or structure, nor darkness or an emptier scene for blur. Sharpness is therefore how
much of a step over six pixels is made within one, whatever and however many the steps; noise, which is what the
plainest two fifths of the blocks show, is taken off before. For structure each gradient is multiplied with that of the
next row instead of squared: edges go on there, noise cancels out.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Image
from edge_agent.core.scratch import scratch

PLANE = (72, 128)
"""At most so many samples, rows and columns."""
TILE = 8
"""Samples along the side of a tile: 9 x 16 tiles tell which parts of the picture have structure."""
BLACK, CLIPPED = 16, 250
"""Green up to the first counts as black (video levels have black at 16), from the second on as clipped."""

TURNS = 16
"""So many samples of a picture, each of other pixels, make a smooth one: see `sampled`."""

_OFFSETS = tuple((5 * turn // 4 % 4, 3 * turn % 4) for turn in range(TURNS))  # quarters of a step; far ones in a row
_BLOCKS = (6, 8)
_BLOCK = (10, 20)
_FAR = 6  # pixels: steps that are blurred over less lose sharpness
_EDGE = 8.0  # levels², of a tile: steps of about 2 levels from sample to sample, where noise allows
_NOISE_SHARE = 2.0  # measured: white noise of up to 15 levels gives no tile more than this share of itself
_TEXTURE = 1400.0  # levels², of a block: finer texture than the plane can show; noise of 15 levels has 900
_MEAN_NOISE = 1.1  # the plainest two fifths show a little less of it than the mean
_STEPS, _STEPS_OF_NOISE = 4.0, 0.5  # levels² and share of the noise, which the energy of far steps must exceed
_ALIKE = 0.2  # share of the contrast: less than what covers a third of the picture changes
_PLAIN = 3.0  # levels: a picture of less contrast has no edges that could be sharp


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one picture looks like.

    Attributes:
        size: (width, height) in pixels.
        brightness: mean of green, 0 to 255.
        black: share of the samples that are nearly black, 0 to 1.
        clipped: share of the samples that are at the upper end, 0 to 1.
        contrast: standard deviation of green, in levels.
        structure: share of the picture that shows more than a plain surface, 0 to 1.
        sharpness: energy of steps over one pixel in that of steps over six, without noise. 0: there are no steps.
            None: there is too little contrast to tell.
        plane: `(H', W') uint8`, the samples.
        blocks: `(N, h, w) uint8`, what sharpness was seen on.
    """

    size: tuple[int, int]
    brightness: float
    black: float
    clipped: float
    contrast: float
    structure: float
    sharpness: float | None
    plane: Image
    blocks: Image

    def same_as(self, other: "Look") -> bool:
        """Whether every sample is the same. Sensor noise sees to it that two pictures of a real camera never are."""
        if self.size != other.size:
            return False
        return np.array_equal(self.plane, other.plane) and np.array_equal(self.blocks, other.blocks)


def look_at(image: Image, before: Look | None = None, *, focus: bool = True) -> Look:
    """Measures `(H, W, 3) uint8`, with H and W at least 1; it may be a view of any strides.

    `before` is a look of a moment ago: while the contrast is about the same, the structure is taken to be too, and
    without `focus` the sharpness as well.
    """
    height, width = image.shape[:2]
    plane, memory = sampled(image), scratch()
    levels = _filled(memory[0], plane)
    brightness = float(np.add.reduce(levels)) / plane.size
    variance = max(0.0, float(np.vdot(levels, levels)) / plane.size - brightness**2)
    contrast = variance**0.5
    known = before if before and abs(contrast - before.contrast) <= _ALIKE * before.contrast else None
    if known and not focus:
        structure, sharpness, blocks = known.structure, known.sharpness, known.blocks
    else:
        blocks = _blocks(image[:, :, 1])
        floats, spare = _filled(memory[1], blocks).reshape(blocks.shape), memory[2:]
        energy = _energy(floats, 1, spare)
        structure = known.structure if known else max(_structure(levels, plane.shape, spare), _share(energy > _TEXTURE))
        sharpness = _sharpness(energy, _energy(floats, _FAR, spare)) if variance > _PLAIN**2 else None
    return Look(
        size=(width, height),
        brightness=brightness,
        black=_share(plane <= BLACK),
        clipped=_share(plane >= CLIPPED),
        contrast=contrast,
        structure=structure,
        sharpness=sharpness,
        plane=plane,
        blocks=blocks,
    )


def sampled(image: Image, turn: int = 0) -> Image:
    """`(H', W') uint8`: the green of every n-th pixel, no more than `PLANE`.

    Each `turn` takes other pixels: the mean of `TURNS` of them in a row is like a picture made smaller with care, on
    which edges move on smoothly where they move by a pixel.
    """
    samples: Image = _every(image, *_OFFSETS[turn % TURNS]).copy()
    return samples


def glimpse(image: Image) -> FloatArray:
    """`(H', W') float32`: the mean of four samples, smoother and with half the noise of one."""
    one = _every(image, 0, 0)
    total = scratch()[0].view(np.uint16)[: one.size].reshape(one.shape)
    total[:] = one
    for y, x in ((0, 2), (2, 0), (2, 2)):
        total += _every(image, y, x)
    mean: FloatArray = total.astype(np.float32)
    mean *= np.float32(0.25)
    return mean


def _every(image: Image, y: int, x: int) -> Image:
    """A view of every n-th pixel, from so many quarters of a step on."""
    height, width = image.shape[:2]
    step_y, step_x = -(-height // PLANE[0]), -(-width // PLANE[1])
    rows, columns = height // step_y * step_y, width // step_x * step_x
    y, x = y * step_y // 4, x * step_x // 4
    return image[y : y + rows : step_y, x : x + columns : step_x, 1]


def _filled(row: FloatArray, samples: Image) -> FloatArray:
    """The beginning of a row of memory, with the samples in it."""
    levels: FloatArray = row[: samples.size]
    levels[:] = samples.ravel()
    return levels


def _share(flags: Array) -> float:
    return float(np.count_nonzero(flags)) / flags.size


def _blocks(green: Image) -> Image:
    """`(48, 10, 20)` of the picture, one from the middle of each cell of a grid; fewer or smaller in a small picture."""
    height, width = green.shape
    rows, columns = min(_BLOCKS[0], height), min(_BLOCKS[1], width)
    cell_h, cell_w = height // rows, width // columns
    block_h, block_w = min(_BLOCK[0], cell_h), min(_BLOCK[1], cell_w)
    y, x = (cell_h - block_h) // 2, (cell_w - block_w) // 2
    cells = green[: rows * cell_h, : columns * cell_w].reshape(rows, cell_h, columns, cell_w)
    middle = cells[:, y : y + block_h, :, x : x + block_w].transpose(0, 2, 1, 3)
    blocks: Image = middle.copy().reshape(rows * columns, block_h, block_w)
    return blocks


def _energy(blocks: FloatArray, apart: int, memory: FloatArray) -> FloatArray:
    """`(N,)`: of each block the mean square of steps over so many pixels, across and down, in levels²."""
    count, height, width = blocks.shape
    if height <= apart or width <= apart:
        return np.zeros(count, np.float32)
    flat, squares = blocks.ravel(), memory[:2, : blocks.size]  # as one row: see `_structure`
    for row, step in zip(squares, (apart, apart * width), strict=True):
        np.subtract(flat[step:], flat[:-step], out=row[:-step])
        row[-step:] = 0
    np.square(squares, out=squares)
    across, down = (squares.reshape(2, count, height * width) @ _weights(height, width, apart)[..., None])[..., 0]
    energy: FloatArray = across + down
    return energy


@lru_cache(maxsize=64)
def _weights(height: int, width: int, apart: int) -> FloatArray:
    """`(2, height * width)`: what makes a mean of the steps across, and down; none for what runs over an end."""
    weights = np.zeros((2, height, width), np.float32)
    weights[0, :, :-apart] = 1 / (height * (width - apart))
    weights[1, :-apart] = 1 / ((height - apart) * width)
    return weights.reshape(2, height * width)


def _sharpness(near: FloatArray, far: FloatArray) -> float:
    plainest = near.size * 2 // 5
    noise = _MEAN_NOISE * float(np.partition(near, plainest)[plainest])
    steps = float(np.add.reduce(far)) / far.size - noise
    if steps < _STEPS + _STEPS_OF_NOISE * noise:
        return 0.0
    return max(0.0, float(np.add.reduce(near)) / near.size - noise) / steps


def _structure(flat: FloatArray, shape: tuple[int, ...], memory: FloatArray) -> float:
    """The share of tiles with edges in them; 0 for pictures too small for a tile.

    Worked on as one row, because numpy is fast there: what runs over the end of a row has no weight in the sums.
    """
    height, width = shape
    if height <= TILE or width <= TILE:
        return 0.0
    rows = (height - 1) * width
    products, steps, others = memory[:2, :rows], memory[2], memory[3, : rows - 1]
    across = np.subtract(flat[1:], flat[:-1], out=steps[: flat.size - 1])
    np.multiply(across[: rows - 1], across[width:], out=products[0, :-1])
    np.square(across[:rows], out=products[1])
    down = np.subtract(flat[width:], flat[:-width], out=steps[:rows])
    products[0, :-1] += np.multiply(down[:-1], down[1:], out=others)
    products[0, -1] = 0
    from_left, from_right = _tile_means(height, width)
    edges, energy = from_left @ products.reshape(2, height - 1, width) @ from_right
    tenth = energy.size // 10
    noise = float(np.partition(energy, tenth, axis=None)[tenth]) / 2  # of the plainest tiles
    return _share(edges > _EDGE + _NOISE_SHARE * noise)


@lru_cache(maxsize=64)
def _tile_means(height: int, width: int) -> tuple[Array, Array]:
    """`left @ x @ right` is the mean of each tile of `(height - 1, width)`: far faster than reshaping and summing."""
    left = np.zeros((height // TILE, height - 1), np.float32)
    right = np.zeros((width, width // TILE), np.float32)
    for tile in range(height // TILE):
        left[tile, tile * TILE : (tile + 1) * TILE] = 1 / TILE
    for tile in range(width // TILE):
        right[tile * TILE : (tile + 1) * TILE, tile] = 1 / TILE
    right[-1] = 0  # the last gradient of a row runs over its end
    return left, right
