"""A line across the frame, and what it means to cross it."""

from typing import Literal, get_args

import numpy as np

from edge_agent.core.datatypes import Array, FloatArray

Point = tuple[float, float]
Segment = tuple[Point, Point]
Direction = Literal["right", "left", "up", "down", "any"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)
_WAYS: dict[str, Point] = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


def normal_along(line: Segment, direction: Direction) -> Point | None:
    """The line's normal that points the way parts go (y points down); None where the line runs that very way.

    For `any` it is one of both normals.
    """
    (ax, ay), (bx, by) = line
    normal = (by - ay, ax - bx)
    if direction == "any":
        return normal
    way = _WAYS[direction]
    along = normal[0] * way[0] + normal[1] * way[1]
    if along == 0:
        return None
    return normal if along > 0 else (-normal[0], -normal[1])


def heading_of(direction: Direction) -> Point | None:
    """The way parts go, of length 1 (y points down); None for `any`."""
    return _WAYS.get(direction)


def crosses(line: Segment, direction: Direction, before: Point, now: Point) -> bool:
    """Whether the way from `before` to `now` crosses the line in the direction; all in the same units.

    A point on the line counts as beyond it, so that no way is counted twice or missed between two frames.
    """
    normal = normal_along(line, direction)
    if normal is None:
        return False
    start, end = line
    side_before, side_now = _dot(normal, _minus(before, start)), _dot(normal, _minus(now, start))
    if not (side_before < 0 <= side_now or (direction == "any" and side_now < 0 <= side_before)):
        return False
    share = side_before / (side_before - side_now)
    meeting = (before[0] + share * (now[0] - before[0]), before[1] + share * (now[1] - before[1]))
    length = _minus(end, start)
    place = _dot(_minus(meeting, start), length) / _dot(length, length)
    return 0 <= place <= 1


def distances_to(line: Segment, points: FloatArray) -> Array:
    """`(N,)` from each of the points `(N, 2)` to the nearest of the line; all in the same units."""
    start, along = np.array(line[0]), np.array(_minus(line[1], line[0]))
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    away: Array = np.linalg.norm(points - (start + share[:, None] * along), axis=1)
    return away


def _minus(a: Point, b: Point) -> Point:
    return (a[0] - b[0], a[1] - b[1])


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1]
