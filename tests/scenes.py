"""Made pictures of a station, as a camera with a real sensor would see it: never twice the same."""

from functools import lru_cache

import cv2
import numpy as np

WIDTH, HEIGHT = 640, 360


def scene(seed=0, width=WIDTH, height=HEIGHT):
    """A lit background with a dozen things of sharp outlines on it."""
    rng = np.random.default_rng(seed)
    light = cv2.resize(rng.normal(rng.integers(90, 150), 12, (9, 16)), (width, height))
    image = np.repeat(np.clip(light, 0, 255)[..., None], 3, axis=2).astype(np.uint8)
    for number in range(14):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(level) for level in rng.integers(20, 235, 3))
        if number % 2:
            corner = (x + int(rng.integers(20, width // 3)), y + int(rng.integers(20, height // 3)))
            cv2.rectangle(image, (x, y), corner, colour, int(rng.integers(2, 8)))
        else:
            cv2.circle(image, (x, y), int(rng.integers(8, height // 8)), colour, -1, cv2.LINE_AA)
    return image


def plain(level, width=WIDTH, height=HEIGHT):
    return np.full((height, width, 3), level, np.uint8)


def hand(width=WIDTH, height=HEIGHT):
    """Something close before the lens: large soft shades, nothing else."""
    y, x = np.mgrid[:height, :width]
    shade = 60 + 40 * np.exp(-((x - width / 3) ** 2 + (y - height / 2) ** 2) / (0.4 * width**2))
    return np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)


@lru_cache
def _noises(height, width):
    return np.random.default_rng(7).standard_normal((height + 64, width + 64, 3), np.float32)


def seen(image, sigma=3.0, gain=1.0, seed=0):
    """The picture with noise of the sensor, in levels, other for each seed; and with another exposure."""
    height, width = image.shape[:2]
    y, x = divmod(seed * 389 % 4096, 64)
    noise = _noises(height, width)[y : y + height, x : x + width]
    return np.clip(image * np.float32(gain) + np.float32(sigma) * noise, 0, 255).astype(np.uint8)


def blurred(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def as_jpeg(image, quality=70):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def pushed(image, share_x=0.0, share_y=0.0, turned_deg=0.0):
    """What a camera sees that was pushed by shares of its picture, or turned."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turned_deg, 1)
    matrix[:, 2] += (share_x * width, share_y * height)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)


def with_part(image, x, level=230):
    """A large part with print on it, its left side at x."""
    shown = image.copy()
    height = image.shape[0]
    cv2.rectangle(shown, (x, height // 4), (x + 120, 3 * height // 4), (level,) * 3, -1)
    cv2.putText(shown, "8", (x + 20, height // 2 + 30), cv2.FONT_HERSHEY_SIMPLEX, 3, (10, 10, 10), 6)
    return shown
