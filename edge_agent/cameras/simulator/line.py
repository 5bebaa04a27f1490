"""A whole line: what the camera sees at a moment, and what is really there."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_agent.cameras.simulator.backdrop import BELT_Y, belt_surface, wall
from edge_agent.cameras.simulator.belt import Belt, Part
from edge_agent.cameras.simulator.bottle import Sprite, draw
from edge_agent.cameras.simulator.settings import Config, fault_at
from edge_agent.core.datatypes import Image

Box = tuple[float, float, float, float]
_NOISE_ROOM = 64  # the noise is cut out of a larger picture of it, elsewhere for each frame
_SHAKE = ((31.0, 5.3), (22.0, 7.1))  # px and Hz, across and down
_DARK = 0.01
_DEFOCUS = 41  # px


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing in the picture: `box` is xyxy in pixels, cut at the picture's edge; `visible` the share within it."""

    label: str
    box: Box
    visible: float
    part: int


class Line:
    """Draws the line at any time; time must not go back. The same configuration gives the same pictures."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.belt = Belt(config)
        self._wall, self._surface = wall(config), belt_surface(config)
        self._noise = _noise(config)
        self._sprites: dict[int, Sprite] = {}  # by the part's number, in the order of their coming
        self._sprites_most = math.ceil(config.width / self.belt.part_width_px) + 4  # there is no room for more
        phases = np.random.default_rng([config.seed, 0, 3]).uniform(0, 2 * np.pi, 2)
        self._phases = (float(phases[0]), float(phases[1]))
        self._frozen: tuple[float, Image] | None = None

    def look(self, t_s: float) -> tuple[Image, list[Seen]]:
        """The picture `(height, width, 3) uint8` BGR, `t_s` seconds after the start, and all that is in it.

        While it is frozen the picture is the first one of that time; what is seen is what is really there.
        """
        seen = self.seen(t_s)
        frozen = fault_at(self._config.faults, "frozen", t_s)
        if frozen is None:
            self._frozen = None
            return self._picture(t_s), seen
        if self._frozen is None or self._frozen[0] != frozen.at_s:
            self._frozen = (frozen.at_s, self._picture(t_s))
        return self._frozen[1], seen

    def seen(self, t_s: float) -> list[Seen]:
        """What is in the picture, by parts, without drawing it."""
        shift = self._shake(t_s)
        found = []
        for part in self.belt.at(t_s):
            sprite = self._sprite(part)
            left, top = self._corner(part, sprite, t_s)
            found += [self._cut(part, label, box, left + shift[0], top + shift[1]) for label, box in sprite.boxes]
        return [one for one in found if one.visible > 0]

    def _picture(self, t_s: float) -> Image:
        import cv2

        config = self._config
        picture: Image = self._wall.copy()
        self._draw_belt(picture, t_s)
        for part in self.belt.at(t_s):
            sprite = self._sprite(part)
            _lay(picture, sprite, *self._corner(part, sprite, t_s))
        shift = self._shake(t_s)
        if shift != (0, 0):
            picture = np.roll(picture, shift[::-1], (0, 1))
        if fault_at(config.faults, "blurred", t_s):
            size = max(3, round(_DEFOCUS * config.scale) | 1)
            picture = cast("Image", cv2.blur(picture, (size, size)))
        x, y = np.random.default_rng([config.seed, round(t_s * 1e6)]).integers(0, _NOISE_ROOM, 2)
        noise = self._noise[y : y + config.height, x : x + config.width]
        cv2.addWeighted(picture, self._light(t_s), noise, 1.0, -128.0, dst=picture)
        picture.flags.writeable = False
        return picture

    def _draw_belt(self, picture: Image, t_s: float) -> None:
        surface, width = self._surface, self._config.width
        length = surface.shape[1]
        run = round(self.belt.run_px(t_s))
        start = (run if self._config.direction == "left" else -run) % length
        strip = picture[-surface.shape[0] :]
        x = 0
        while x < width:
            step = min(length - start, width - x)
            strip[:, x : x + step] = surface[:, start : start + step]
            x, start = x + step, 0

    def _sprite(self, part: Part) -> Sprite:
        sprite = self._sprites.get(part.number)
        if sprite is None:
            smear = self._config.px_per_s * self._config.exposure_ms / 1000
            sprite = self._sprites[part.number] = draw(part.bottle, self._config.scale, smear)
            if len(self._sprites) > self._sprites_most:
                del self._sprites[next(iter(self._sprites))]
        return sprite

    def _corner(self, part: Part, sprite: Sprite, t_s: float) -> tuple[int, int]:
        """Where the sprite's upper left corner is."""
        x = self.belt.run_px(t_s) - part.place_px
        if self._config.direction == "left":
            x = self._config.width - x
        return round(x - sprite.foot[0]), round(BELT_Y * self._config.scale - sprite.foot[1])

    def _cut(self, part: Part, label: str, box: Box, left: float, top: float) -> Seen:
        width, height = self._config.width, self._config.height
        x1, y1, x2, y2 = box[0] + left, box[1] + top, box[2] + left, box[3] + top
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
        area = max(0.0, cut[2] - cut[0]) * max(0.0, cut[3] - cut[1])
        return Seen(label, cut, area / ((x2 - x1) * (y2 - y1)), part.number)

    def _light(self, t_s: float) -> float:
        if fault_at(self._config.faults, "dark", t_s):
            return _DARK
        slow, fast = np.sin(2 * np.pi * t_s / 37 + self._phases[0]), np.sin(2 * np.pi * t_s / 11 + self._phases[1])
        return float(1 + self._config.light_drift * (0.6 * slow + 0.4 * fast))

    def _shake(self, t_s: float) -> tuple[int, int]:
        """How far the picture is pushed across and down; (0, 0) while nobody shakes the camera."""
        fault = fault_at(self._config.faults, "shaken", t_s)
        if fault is None:
            return 0, 0
        across, down = (
            round(size * self._config.scale * float(np.sin(2 * np.pi * hz * (t_s - fault.at_s) + 1)))
            for size, hz in _SHAKE
        )
        return across, down


def _noise(config: Config) -> Image:
    """Noise around 128, larger than the picture."""
    rng = np.random.default_rng([config.seed, 0, 2])
    shape = config.height + _NOISE_ROOM, config.width + _NOISE_ROOM, 3
    grains = rng.standard_normal(shape, np.float32) * np.float32(config.noise) + np.float32(128.5)
    noise: Image = np.clip(grains, 0, 255).astype(np.uint8)
    return noise


def _lay(picture: Image, sprite: Sprite, left: int, top: int) -> None:
    import cv2

    height, width = sprite.rest.shape[:2]
    y1, y2 = max(top, 0), min(top + height, picture.shape[0])
    x1, x2 = max(left, 0), min(left + width, picture.shape[1])
    if x1 >= x2 or y1 >= y2:
        return
    region = picture[y1:y2, x1:x2]
    inside = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
    cv2.multiply(region, sprite.rest[inside], dst=region, scale=1 / 255)
    cv2.add(region, sprite.colour[inside], dst=region)
