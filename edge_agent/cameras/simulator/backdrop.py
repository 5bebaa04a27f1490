"""What stands still: the wall behind the belt with all that hangs on it, and the belt's own surface. Made once."""

import numpy as np

from edge_agent.cameras.simulator.settings import Config
from edge_agent.core.datatypes import Image

BELT_Y = 652.0
"""Where the bottles stand, in a picture of 1280x720."""

_THINGS = 26  # on the wall when the clutter is full


def wall(config: Config) -> Image:
    """`(height, width, 3) uint8`: a lit wall, the frame of the machine, and clutter."""
    rng = np.random.default_rng([config.seed, 0])
    down, across = np.mgrid[0 : config.height, 0 : config.width].astype(np.float32)
    light = 0.8 + 0.25 * np.sin(np.pi * (0.15 + 0.7 * across / config.width)) - 0.25 * down / config.height
    tint = np.array([rng.uniform(150, 185), rng.uniform(155, 185), rng.uniform(150, 180)], np.float32)
    picture: Image = np.clip(light[..., None] * tint, 0, 255).astype(np.uint8)
    _draw_frame(picture, config.scale, rng)
    for _ in range(round(_THINGS * config.clutter)):
        _draw_thing(picture, config.scale, rng)
    return picture


def belt_surface(config: Config) -> Image:
    """`(rows, length, 3) uint8`: one link after the other, to be repeated; from the belt's edge to the picture's foot."""
    import cv2

    rng = np.random.default_rng([config.seed, 0, 1])
    rows, scale = config.height - round(BELT_Y * config.scale), config.scale
    link = max(4, round(80 * scale))
    surface: Image = np.full((rows, 8 * link, 3), 62, np.uint8)
    for index in range(8):
        level = int(rng.integers(52, 78))
        cv2.rectangle(surface, (index * link, 0), ((index + 1) * link - 1, rows), (level, level, level + 3), -1)
        cv2.line(surface, (index * link, 0), (index * link, rows), (28, 28, 28), max(1, round(3 * scale)))
    cv2.line(surface, (0, 1), (surface.shape[1], 1), (120, 120, 120), max(1, round(4 * scale)))
    for _ in range(20):  # wear
        x, y = int(rng.integers(surface.shape[1])), int(rng.integers(rows))
        cv2.circle(surface, (x, y), max(1, round(rng.uniform(1, 4) * scale)), (85, 88, 90), -1, cv2.LINE_AA)
    return surface


def _draw_frame(picture: Image, scale: float, rng: np.random.Generator) -> None:
    """Posts and a beam with bolts: edges that never move."""
    import cv2

    width = picture.shape[1]
    steel = tuple(int(value) for value in rng.integers(95, 120, 3))
    dark = (50, 52, 55)
    cv2.rectangle(picture, (0, 0), (width, round(58 * scale)), steel, -1)
    cv2.line(picture, (0, round(58 * scale)), (width, round(58 * scale)), dark, max(1, round(5 * scale)))
    for x in np.linspace(0.04, 0.96, 9) * width:
        cv2.circle(picture, (round(x), round(30 * scale)), round(11 * scale), dark, -1, cv2.LINE_AA)
        cv2.circle(
            picture, (round(x - 3 * scale), round(27 * scale)), round(4 * scale), (190, 190, 190), -1, cv2.LINE_AA
        )
    for x in (0.015, 0.36, 0.74):
        left, right = round(x * width), round(x * width + 34 * scale)
        cv2.rectangle(picture, (left, round(58 * scale)), (right, round(BELT_Y * scale)), steel, -1)
        cv2.rectangle(
            picture, (left, round(58 * scale)), (right, round(BELT_Y * scale)), dark, max(1, round(3 * scale))
        )


def _draw_thing(picture: Image, scale: float, rng: np.random.Generator) -> None:
    """A sign, a cable, a knob or a shadow, somewhere."""
    height, width = picture.shape[:2]
    x, y = float(rng.uniform(0, width)), float(rng.uniform(0.09, 0.86)) * height
    draw = (_draw_sign, _draw_cable, _draw_knob, _draw_shadow)[int(rng.integers(4))]
    draw(picture, scale, rng, (x, y))


def _draw_sign(picture: Image, scale: float, rng: np.random.Generator, at: tuple[float, float]) -> None:
    import cv2

    (x, y), (w, h) = at, rng.uniform(24, 110, 2) * scale
    cv2.rectangle(picture, (round(x), round(y)), (round(x + w), round(y + h)), _colour(rng), -1)
    for line in range(int(rng.integers(0, 4))):
        row = round(y + h * (0.2 + 0.2 * line))
        cv2.line(picture, (round(x + 0.1 * w), row), (round(x + 0.8 * w), row), (30, 30, 30), max(1, round(3 * scale)))


def _draw_cable(picture: Image, scale: float, rng: np.random.Generator, at: tuple[float, float]) -> None:
    import cv2

    steps = np.linspace(0, 1, 20)
    xs = at[0] + (rng.uniform(-240, 240) * steps + 20 * np.sin(6 * steps)) * scale
    ys = at[1] + (rng.uniform(-160, 160) * steps + rng.uniform(10, 60) * np.sin(np.pi * steps)) * scale
    points = np.stack([xs, np.minimum(ys, (BELT_Y - 4) * scale)], 1).round().astype(np.int32)
    cv2.polylines(picture, [points], False, _colour(rng), max(1, round(rng.uniform(2, 8) * scale)), cv2.LINE_AA)


def _draw_knob(picture: Image, scale: float, rng: np.random.Generator, at: tuple[float, float]) -> None:
    import cv2

    radius = max(2, round(rng.uniform(6, 30) * scale))
    cv2.circle(picture, (round(at[0]), round(at[1])), radius, _colour(rng), -1, cv2.LINE_AA)


def _draw_shadow(picture: Image, scale: float, rng: np.random.Generator, at: tuple[float, float]) -> None:
    w, h = rng.uniform(60, 260, 2) * scale
    region = picture[round(at[1]) : round(at[1] + h), round(at[0]) : round(at[0] + w)]
    region[:] = (region * rng.uniform(0.75, 0.95)).astype(np.uint8)


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(40, 225, 3))
