"""One bottle: what it is like by chance, and how it looks. Lengths are pixels of a picture of 1280x720."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray, Image

WIDTH, BODY, SHOULDER, NECK, CAP = 150.0, 360.0, 60.0, 50.0, 46.0
NECK_WIDTH, CAP_WIDTH = 58.0, 70.0
LABEL = (118.0, 112.0)
HEIGHT = BODY + NECK + CAP
"""From the belt to the top of the cap; the shoulder is the upper part of the body."""

_DIGITS = 4  # binary ones behind the point, in coordinates for OpenCV
_PAD = 6  # around the sprite: soft edges, and a label that sticks out
_STRAIGHT, _MISALIGNED = 1.5, (8.0, 16.0)  # degrees
_GLASS = ((90, 140, 70), (70, 110, 160), (170, 140, 100), (140, 140, 140), (90, 160, 140), (150, 105, 105))  # BGR
_PAPER = ((235, 235, 230), (210, 230, 245), (225, 240, 220), (240, 220, 215), (200, 215, 225))
_PRINT = ((40, 40, 160), (150, 60, 30), (40, 110, 40), (60, 40, 40), (30, 110, 190), (120, 30, 120))
_CAPS = ((40, 40, 190), (190, 120, 30), (60, 160, 60), (200, 200, 205), (40, 170, 220), (60, 60, 60))
_DEFECTS = ("crack", "label_misaligned", "cap_missing")


@dataclass(frozen=True, slots=True)
class Crack:
    """A jagged line in the glass, `(N, 2)` points from the bottle's upper left corner; `shade` is added to the glass."""

    points: FloatArray
    width: float
    shade: float


@dataclass(frozen=True, slots=True)
class Bottle:
    """What one bottle is like. `defects` are of `crack`, `label_misaligned` and `cap_missing`."""

    defects: tuple[str, ...]
    glass: FloatArray
    paper: FloatArray
    ink: FloatArray
    cap: FloatArray
    label_degrees: float
    label_shift: tuple[float, float]
    stripes: tuple[float, ...]
    gloss: float
    crack: Crack | None

    @staticmethod
    def random(rng: np.random.Generator, *, defects: float, contrast: float) -> "Bottle":
        """A bottle as it comes; with the given chance it has a defect, and one in eight of those has two."""
        found: tuple[str, ...] = ()
        if rng.random() < defects:
            first, second = rng.permutation(3)[:2]
            found = tuple(_DEFECTS[i] for i in sorted([first, second] if rng.random() < 1 / 8 else [first]))
        degrees = rng.uniform(-_STRAIGHT, _STRAIGHT)
        if "label_misaligned" in found:
            degrees = rng.uniform(*_MISALIGNED) * rng.choice([-1, 1])
        return Bottle(
            defects=found,
            glass=_near(rng, _GLASS, 14),
            paper=_near(rng, _PAPER, 10),
            ink=_near(rng, _PRINT, 20),
            cap=_near(rng, _CAPS, 20),
            label_degrees=float(degrees),
            label_shift=(float(rng.uniform(-3, 3)), float(rng.uniform(-8, 8))),
            stripes=tuple(float(value) for value in rng.uniform(0.3, 0.85, 5)),
            gloss=float(rng.uniform(25, 70)),
            crack=_random_crack(rng, contrast) if "crack" in found else None,
        )

    @property
    def has_cap(self) -> bool:
        """Whether there is a cap on it."""
        return "cap_missing" not in self.defects

    @property
    def found(self) -> tuple[str, ...]:
        """The labels that a perfect detector gives for it."""
        label = "label_misaligned" if "label_misaligned" in self.defects else "label"
        return ("bottle", *(("cap",) if self.has_cap else ()), label, *(("crack",) if self.crack else ()))


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A bottle drawn. Adding `colour` to the picture times `rest` / 255 puts it there.

    Both are `(H, W, 3) uint8`. `boxes` has xyxy in pixels of the sprite for each label; `foot` is (x, y) in it of the
    middle of the bottle's foot.
    """

    colour: Image
    rest: Image
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...]
    foot: tuple[float, float]


def draw(bottle: Bottle, scale: float, smear_px: float) -> Sprite:
    """Draws it, smeared along the belt by motion."""
    import cv2

    margin = round(_PAD + smear_px / 2)
    canvas = _Canvas(scale, margin)
    _draw_glass(canvas, bottle)
    if bottle.crack is not None:
        _draw_crack(canvas, bottle.crack)
    _draw_label(canvas, bottle)
    if bottle.has_cap:
        _draw_cap(canvas, bottle)
    colour, alpha = canvas.colour, canvas.alpha
    if smear_px >= 1:
        kernel = (2 * round((smear_px - 1) / 2) + 1, 1)
        colour, alpha = cast("Image", cv2.blur(colour, kernel)), cast("Image", cv2.blur(alpha, kernel))
    rest = cast("Image", cv2.merge([255 - alpha] * 3))
    return Sprite(colour, rest, tuple(canvas.boxes), canvas.at(WIDTH / 2, HEIGHT))


class _Canvas:
    """A premultiplied picture that grows layer by layer. Coordinates from outside are unscaled."""

    def __init__(self, scale: float, margin: int) -> None:
        self._scale, self._margin = scale, margin
        size = round(HEIGHT * scale) + 2 * margin, round(WIDTH * scale) + 2 * margin
        self.colour: Image = np.zeros((*size, 3), np.uint8)
        self.alpha: Image = np.zeros(size, np.uint8)
        self.boxes: list[tuple[str, tuple[float, float, float, float]]] = []
        across = (np.arange(size[1], dtype=np.float32) - margin) / (WIDTH * scale)
        self._shade = 0.55 + 0.5 * np.sin(np.pi * np.clip(0.12 + 0.8 * across, 0, 1))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a place."""
        return x * self._scale + self._margin, y * self._scale + self._margin

    def mark(self, label: str, points: FloatArray, grow: float = 0.0) -> None:
        """Remembers the box around points."""
        x1, y1 = (float(value) - grow for value in points.min(0))
        x2, y2 = (float(value) + grow for value in points.max(0))
        self.boxes.append((label, (*self.at(x1, y1), *self.at(x2, y2))))

    def fill(self, polygon: FloatArray, colour: FloatArray) -> None:
        """One colour, shaded as on a round thing that is lit from the front."""
        import cv2

        rows, columns, points = self._region(polygon, 1)
        mask: Image = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, shift=_DIGITS)
        row = np.clip(self._shade[columns, None] * colour, 0, 255).astype(np.uint8)
        self._put(np.ascontiguousarray(np.broadcast_to(row, (*mask.shape, 3))), mask, rows, columns)

    def tint(self, points: FloatArray, width: float, shade: float) -> None:
        """A broken line, lighter or darker than what is there."""
        import cv2

        rows, columns, fixed = self._region(points, width)
        mask: Image = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        cv2.polylines(mask, [fixed], False, 255, max(1, round(width * self._scale)), cv2.LINE_AA, shift=_DIGITS)
        here = self.colour[rows, columns].astype(np.float32)
        self._put(np.clip(here + shade, 0, 255).astype(np.uint8), mask, rows, columns)

    def _region(self, points: FloatArray, grow: float) -> tuple[slice, slice, Array]:
        """The rows and columns around points, and the points in it with binary digits, as OpenCV takes them."""
        placed = points * self._scale + self._margin
        room = grow * self._scale + 1
        low = np.maximum(np.floor(placed.min(0) - room), 0).astype(int)
        high = np.ceil(placed.max(0) + room).astype(int) + 1
        columns = slice(int(low[0]), min(int(high[0]), self.alpha.shape[1]))
        rows = slice(int(low[1]), min(int(high[1]), self.alpha.shape[0]))
        return rows, columns, np.round((placed - low) * (1 << _DIGITS)).astype(np.int32)

    def _put(self, colour: Image, mask: Image, rows: slice, columns: slice) -> None:
        """Lays a picture over what is there, where the mask says."""
        import cv2

        weight = cv2.merge([mask] * 3)
        region = self.colour[rows, columns]
        cv2.multiply(region, cv2.bitwise_not(weight), dst=region, scale=1 / 255)
        cv2.add(region, cv2.multiply(colour, weight, scale=1 / 255), dst=region)
        alpha = self.alpha[rows, columns]
        cv2.max(alpha, mask, dst=alpha)


def _draw_glass(canvas: _Canvas, bottle: Bottle) -> None:
    middle, neck, top = WIDTH / 2, NECK_WIDTH / 2, CAP
    turn = np.linspace(0, np.pi / 2, 8)
    shoulder = np.stack([middle + neck + (middle - neck) * (1 - np.cos(turn)), CAP + NECK + SHOULDER * np.sin(turn)], 1)
    right = np.concatenate([[[middle + neck, top]], shoulder, [[WIDTH, HEIGHT - 14], [WIDTH - 12, HEIGHT]]])
    left = np.stack([WIDTH - right[:, 0], right[:, 1]], 1)[::-1]
    outline = np.concatenate([right, left]).astype(np.float32)
    canvas.fill(outline, bottle.glass)
    canvas.fill(_box(18, CAP + NECK + SHOULDER, 30, HEIGHT - 20), np.minimum(bottle.glass + bottle.gloss, 255))
    if bottle.has_cap:
        canvas.mark("bottle", np.concatenate([outline, [[middle, 0.0]]]))
        return
    around = np.linspace(0, 2 * np.pi, 24)
    mouth = np.stack([middle + neck * np.cos(around), top + 6 * np.sin(around)], 1).astype(np.float32)
    canvas.fill(mouth, 0.35 * bottle.glass)
    canvas.mark("bottle", np.concatenate([outline, mouth]))


def _draw_cap(canvas: _Canvas, bottle: Bottle) -> None:
    middle, half = WIDTH / 2, CAP_WIDTH / 2
    shape = _box(middle - half, 0, middle + half, CAP)
    canvas.fill(shape, bottle.cap)
    for x in np.linspace(middle - half + 8, middle + half - 8, 6):
        canvas.fill(_box(x - 1.5, 8, x + 1.5, CAP), 0.7 * bottle.cap)
    canvas.mark("cap", shape)


def _draw_label(canvas: _Canvas, bottle: Bottle) -> None:
    centre = np.array([WIDTH / 2 + bottle.label_shift[0], _LABEL_Y + bottle.label_shift[1]])
    angle = np.radians(bottle.label_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def placed(x1: float, y1: float, x2: float, y2: float) -> FloatArray:
        """A box in fractions of the label."""
        corners = (_box(x1, y1, x2, y2) - 0.5) * LABEL
        turned: FloatArray = (corners @ turn.T + centre).astype(np.float32)
        return turned

    canvas.fill(placed(0, 0, 1, 1), bottle.paper)
    canvas.fill(placed(0, 0.08, 1, 0.3), bottle.ink)
    for index, length in enumerate(bottle.stripes):
        y = 0.4 + 0.11 * index
        canvas.fill(placed(0.12, y, 0.12 + 0.85 * length, y + 0.045), bottle.ink)
    canvas.mark("label_misaligned" if "label_misaligned" in bottle.defects else "label", placed(0, 0, 1, 1))


def _draw_crack(canvas: _Canvas, crack: Crack) -> None:
    canvas.tint(crack.points, crack.width, crack.shade)
    canvas.mark("crack", crack.points, crack.width / 2)


_LABEL_Y = CAP + NECK + SHOULDER + 32 + LABEL[1] / 2
_FREE_TOP = _LABEL_Y + LABEL[1] / 2 + 18  # the glass below the label, where a crack can be seen whole


def _random_crack(rng: np.random.Generator, contrast: float) -> Crack:
    """From one side to the other of a box that fills much of the glass below the label."""
    across, down = rng.uniform(66, 108), rng.uniform(44, 92)
    x1 = rng.uniform(14, WIDTH - 14 - across)
    y1 = rng.uniform(_FREE_TOP, HEIGHT - 22 - down)
    count = int(rng.integers(5, 9))
    along = np.linspace(0, 1, count)
    aside = np.concatenate([[0.0], along[1:-1] + rng.uniform(-0.3, 0.3, count - 2), [1.0]])
    if rng.random() < 0.5:  # noqa: PLR2004
        aside = aside[::-1]
    points = np.stack([x1 + across * along, y1 + down * np.clip(aside, 0, 1)], 1).astype(np.float32)
    shade = rng.uniform(55, 120) * contrast * (1 if rng.random() < 0.6 else -1)  # noqa: PLR2004
    return Crack(points, float(rng.uniform(5.0, 7.5)), float(shade))


def _near(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], spread: float) -> FloatArray:
    chosen = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    near: FloatArray = np.clip(chosen + rng.uniform(-spread, spread, 3), 0, 255).astype(np.float32)
    return near


def _box(x1: float, y1: float, x2: float, y2: float) -> FloatArray:
    """The corners, in turn."""
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)
