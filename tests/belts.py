"""Belts as a camera sees them: scenes with a known truth, a simulated detector, and the file format of sequences.

A scene says where each thing is in each picture. It is looked at either by the simulated detector below or, composed
of cut-out photos, by a real one: see `scripts/record_sequences.py`. Both give a `Sequence`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np

from edge_agent.core.datatypes import Detections, Frame
from edge_agent.core.lines import crosses
from edge_agent.core.parts import Ledger
from edge_agent.runtime.trigger import LineInspector

FRAME_MS = 40
WIDE, HIGH = 1280, 480
"""The view in pixels."""
Place = tuple[float, float]
LINE = ((0.5, 0.0), (0.5, 1.0))


@dataclass(frozen=True)
class Thing:
    """Something in view. `path` has its centre in pixels for each picture, None where it is not there."""

    path: tuple[Place | None, ...]
    width: float = 100
    height: float = 120
    is_part: bool = True
    mirrors: int | None = None  # the thing whose reflection it is


@dataclass(frozen=True)
class Scene:
    """What happens, in truth. Pictures are counted from 0.

    `merged`: picture → things the detector takes for one, in each of the ways `("all"`, `"first"`, `"both"`: one wide
    box, the first's box only, a wide box beside the others). `missed`: what the detector does not see, (thing, picture).
    `lost`: pictures that never come. `late`: shares of an interval by which stamps are late at most.
    """

    things: tuple[Thing, ...]
    merged: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    missed: frozenset[tuple[int, int]] = frozenset()
    lost: frozenset[int] = frozenset()
    late: float = 0.0
    miss_rate: float = 0.0
    line: tuple[Place, Place] = LINE
    direction: str = "right"

    @property
    def pictures(self) -> int:
        return len(self.things[0].path)

    def crossings(self) -> list[tuple[int, int]]:
        """(thing, picture) of each crossing that is a part: the first of each time it is in view."""
        found = []
        for number, thing in enumerate(self.things):
            if thing.is_part:
                found += [(number, picture) for picture in _crossings(thing.path, self.line, self.direction)]
        return sorted(found, key=lambda crossing: crossing[::-1])


def _crossings(path, line, direction) -> list[int]:
    found, before, done = [], None, False
    for picture, place in enumerate(path):
        if place is None:
            before, done = None, False
            continue
        now = (place[0] / WIDE, place[1] / HIGH)
        if before is not None and not done and crosses(line, direction, before, now):
            found.append(picture)
            done = True
        before = now
    return found


@dataclass(frozen=True)
class Shot:
    """One frame as it comes to the inspector: `found` is (class_id, score, x1, y1, x2, y2) each."""

    seq: int
    captured_ns: int
    found: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Sequence:
    """Frames with what was found in them, and the truth: the pictures (`seq`) in which parts cross the line."""

    about: str
    how: str
    shots: tuple[Shot, ...]
    crossings: tuple[int, ...]
    labels: tuple[str, ...] = ("part",)
    parts: tuple[str, ...] = ("part",)
    line: tuple[Place, Place] = LINE
    direction: str = "right"
    size: tuple[int, int] = (WIDE, HIGH)

    def save(self, path: Path) -> None:
        """A head, then a line per frame."""
        head = {key: value for key, value in self.__dict__.items() if key != "shots"}
        lines = [json.dumps(head)]
        lines += [json.dumps({"seq": s.seq, "captured_ns": s.captured_ns, "found": s.found}) for s in self.shots]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(path: Path) -> Sequence:
    head, *shots = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Sequence(
        shots=tuple(Shot(s["seq"], s["captured_ns"], tuple(map(tuple, s["found"]))) for s in shots),
        **{key: value if isinstance(value, str) else _tuples(value) for key, value in head.items()},
    )


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def verdicts(sequence: Sequence, inspector_of=LineInspector) -> list[int]:
    """Runs it through the real inspector; the `seq` of the frame of each verdict."""
    ledger, given = Ledger(150, 600), []
    inspector = inspector_of(
        "top", ledger, sequence.labels, [], parts=sequence.parts, line=sequence.line, direction=sequence.direction
    )
    width, height = sequence.size
    picture = np.zeros((height, width, 3), np.uint8)
    for shot in sequence.shots:
        rows = np.array(shot.found, np.float32).reshape(-1, 6)
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        found = Detections(rows[:, 2:], rows[:, 1], rows[:, 0].astype(np.int32))
        given += [shot.seq for _ in inspector.finish(Frame(picture, shot.seq, shot.captured_ns), None, found)]
    assert ledger.opened == len(given)
    return given


# ------------------------------------------------------------------------------------------------ the simulated detector
def look(scene: Scene, seed: int, *, noise: float = 0.02, about: str = "") -> Sequence:
    """A detector whose edges are off by up to `noise` of a box, and which sees what is wholly or half in view."""
    random, shots = Random(seed), []
    for picture in range(scene.pictures):
        boxes = {
            number: _noisy(box, random, noise)
            for number, thing in enumerate(scene.things)
            if (box := box_of(thing, picture)) is not None
            and (number, picture) not in scene.missed
            and random.random() >= scene.miss_rate
        }
        found = _found(boxes, scene, picture, random)
        stamp_ns = int((picture + scene.late * random.random()) * FRAME_MS * 1e6)
        if picture not in scene.lost:
            shots.append(Shot(picture, stamp_ns, tuple(found)))
    return Sequence(
        about,
        f"simulated detector, seed {seed}",
        tuple(shots),
        tuple(picture for _, picture in scene.crossings()),
        line=scene.line,
        direction=scene.direction,
    )


def box_of(thing: Thing, picture: int):
    """Its box, cut at the edges of the view; None where less than half of it is in view."""
    if (place := thing.path[picture]) is None:
        return None
    x, y = place
    left, right = max(x - thing.width / 2, 0), min(x + thing.width / 2, WIDE)
    top, bottom = max(y - thing.height / 2, 0), min(y + thing.height / 2, HIGH)
    if right - left < thing.width / 2 or bottom - top < thing.height / 2:
        return None
    return (left, top, right, bottom)


def _noisy(box, random: Random, noise: float):
    reach = (noise * (box[2] - box[0]), noise * (box[3] - box[1])) * 2
    return tuple(edge + random.uniform(-r, r) for edge, r in zip(box, reach, strict=True))


def _found(boxes, scene: Scene, picture: int, random: Random):
    way, group = scene.merged.get(picture, ("", ()))
    group = [number for number in group if number in boxes]
    if len(group) > 1:
        edges = list(zip(*(boxes[number] for number in group), strict=True))
        wide = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        for number in group[(way == "first") :] if way != "both" else ():
            del boxes[number]
        if way in {"all", "both"}:
            boxes[-1] = wide
    for number, box in sorted(boxes.items()):
        score = 0.45 if number >= 0 and scene.things[number].mirrors is not None else 0.8
        yield (0, round(score + random.uniform(-0.1, 0.1), 3), *(round(edge, 1) for edge in box))


# ------------------------------------------------------------------------------------------------------------- the scenes
def way_of(*legs: tuple[int, float], start: float = 0.0) -> list[float]:
    """Where the belt is in each picture, in pixels: legs of (pictures, pixels per picture)."""
    way = [start]
    for pictures, step in legs:
        for _ in range(pictures):
            way.append(way[-1] + step)
    return way


def along(way: list[float], behind: float = 0.0, y: float = 240, **kwargs) -> Thing:
    """A thing on the belt, so many pixels behind its start; it is there while any of it is in view."""
    width = kwargs.get("width", 100)
    places = (x - behind for x in way)
    path = tuple((x, y) if -width / 2 < x < WIDE + width / 2 else None for x in places)
    return Thing(path, **kwargs)


def row(way: list[float], count: int, pitch: float, y: float = 240, **kwargs) -> tuple[Thing, ...]:
    return tuple(along(way, pitch * number, y, **kwargs) for number in range(count))


def _until_out(step: float, more: float = 0, start: float = -60.0) -> list[float]:
    return way_of((math.ceil((WIDE + 120 + more) / step) + 1, step), start=start)


def burst(step: float, phase: float, pitch: float = 108, count: int = 10) -> Scene:
    """A tight row, then nothing."""
    return Scene(row(_until_out(step, pitch * count, -60 - phase), count, pitch))


def stops_on_line(step: float, phase: float) -> Scene:
    """Stops on the line and trembles there, then goes on."""
    start = -60 - phase
    there = int((640 - start) / step)
    way = way_of((there, step), start=start)
    tremble = [640 + 3 * math.sin(2.4 * k) for k in range(100)]
    return Scene((along([*way, *tremble, *way_of((int(700 / step), step), start=640 + step)]),))


def turns(step: float, phase: float, at: float, again: bool, count: int = 1, pitch: float = 130) -> Scene:
    """Turns back at a place, goes back for a while but stays in view, and may come again."""
    start = -60 - phase
    forth, back = int((at - start) / step), int(min(at - 120 - pitch * (count - 1), 500) / step)
    legs = [(forth, step), (3, step / 2), (5, 0), (3, -step / 2), (back, -step), (5, 0)]
    legs += [(math.ceil((WIDE + pitch * count) / step), step)] if again else []
    return Scene(row(way_of(*legs, start=start), count, pitch))


def returns(step: float, phase: float, at: float) -> Scene:
    """Goes back out of view where it came from, and comes again after a second."""
    start = -60 - phase
    forth, back = int((at - start) / step), int((at + 120) / step) + 1
    legs = [(forth, step), (5, 0), (back, -step), (25, 0), (math.ceil((WIDE + 300) / step), step)]
    return Scene((along(way_of(*legs, start=start)),))


def touching(step: float, phase: float, at: float, way: str, length: int, pitch: float = 101, count: int = 2) -> Scene:
    """A row that touches; around a place of its middle the detector takes it for one, for so many pictures."""
    scene = Scene(row(_until_out(step, pitch * count, -60 - phase), count, pitch))
    middle = (count - 1) / 2 * pitch
    first = next(k for k in range(scene.pictures) if -60 - phase + k * step - middle >= at) - length // 2
    group = (way, tuple(range(count)))
    return replace(scene, merged=dict.fromkeys(range(first, first + length), group))


def missed(step: float, phase: float, first: float, length: int, count: int = 1, pitch: float = 130) -> Scene:
    """Each part is missed in so many pictures in a row, from a place on."""
    scene = Scene(row(_until_out(step, pitch * count, -60 - phase), count, pitch))
    gone = []
    for number, thing in enumerate(scene.things):
        start = next(k for k, place in enumerate(thing.path) if place and place[0] >= first)
        gone += [(number, picture) for picture in range(start, start + length)]
    return replace(scene, missed=frozenset(gone))


def lossy(step: float, phase: float, count: int, pitch: float, *, lost: float = 0, miss: float = 0, late: float = 0):
    """A row; a share of pictures never comes, a share of sightings is missed, stamps are late."""
    scene = Scene(row(_until_out(step, pitch * count, -60 - phase), count, pitch), miss_rate=miss, late=late)
    random = Random(f"{step} {phase} {pitch}")
    return replace(scene, lost=frozenset(k for k in range(scene.pictures) if random.random() < lost))


def reflected(step: float, phase: float, count: int, pitch: float, line=((0.5, 0.0), (0.5, 0.62))) -> Scene:
    """Each part with its mirror image below, seen less surely; the line ends at the belt's edge."""
    way = _until_out(step, pitch * count, -60 - phase)
    parts = row(way, count, pitch, 200)
    mirrored = tuple(
        replace(thing, path=tuple(p and (p[0], 325) for p in thing.path), is_part=False, mirrors=n)
        for n, thing in enumerate(parts)
    )
    scene = Scene(parts + mirrored, line=line)
    random = Random(f"{step} {phase} {pitch}")
    blinks = {(n, k) for n in range(count, 2 * count) for k in range(scene.pictures) if random.random() < 0.3}
    return replace(scene, missed=frozenset(blinks))


def lanes(step: float, phase: float, count: int, pitch: float, shift: float = 0) -> Scene:
    """Two rows side by side."""
    way = _until_out(step, pitch * count + shift, -60 - phase)
    return Scene(row(way, count, pitch, 170) + row([x - shift for x in way], count, pitch, 295))


def stops_dead(step: float, phase: float, count: int, pitch: float, at: float, pause: int = 30) -> Scene:
    """A row that stops from one picture to the next, and goes on like that."""
    start = -60 - phase
    legs = [(int((at - start) / step), step), (pause, 0.0), (math.ceil((WIDE + pitch * count) / step), step)]
    return Scene(row(way_of(*legs, start=start), count, pitch))


def bystanders(step: float, phase: float, count: int, pitch: float) -> Scene:
    """A row; a part lies beside the belt, and a hand passes above and across it, hiding what is below."""
    way = _until_out(step, pitch * count, -60 - phase)
    parts, n = row(way, count, pitch, 200), len(way)
    still = Thing(((500.0, 420.0),) * n, is_part=False)
    hand = tuple((900 - 4 * (k - 30), 460 - 12 * (k - 30)) if 30 <= k < 60 and k < n else None for k in range(n))
    hidden = {
        (number, k)
        for number, thing in enumerate(parts)
        for k in range(n)
        if hand[k] and thing.path[k] and abs(thing.path[k][0] - hand[k][0]) < 80 and abs(hand[k][1] - 200) < 80
    }
    return Scene((*parts, still, Thing(hand, 90, 90, is_part=False)), missed=frozenset(hidden))


def catching_up() -> Scene:
    """The second is faster until it lies half over the first, on the line, and then waits."""
    first = way_of((110, 14), start=-60)
    gaps = [max(100 + 60 * (26 - k) / 26, 45) if k < 70 else min(45 + 6 * (k - 70), 160) for k in range(len(first))]
    follows = tuple((x - gap, 240) if -50 < x - gap < WIDE + 50 else None for x, gap in zip(first, gaps, strict=True))
    return Scene((Thing(follows), along(first)))


Make = Callable[[float, float], Scene]
SCENES: dict[str, Make] = {
    "burst": burst,
    "burst_touching": lambda s, p: burst(s, p, pitch=101),
    "stops_on_line": stops_on_line,
    "turns_before": lambda s, p: turns(s, p, 560, again=False),
    "turns_before_and_again": lambda s, p: turns(s, p, 560, again=True),
    "turns_after_and_again": lambda s, p: turns(s, p, 800, again=True),
    "row_turns_and_again": lambda s, p: turns(s, p, 900, again=True, count=4, pitch=130),
    "tight_row_turns_and_again": lambda s, p: turns(s, p, 900, again=True, count=4, pitch=104),
    "returns_before": lambda s, p: returns(s, p, 500),
    "returns_after": lambda s, p: returns(s, p, 800),
    **{
        f"touching_{way}_{where}_{n}": lambda s, p, at=at, way=way, n=n: touching(s, p, at, way, min(n, int(400 / s)))
        for where, at in (("before", 400), ("on", 640), ("after", 900))
        for way in ("all", "first", "both")
        for n in (5, 10 if way == "first" else 20)
    },
    "touching_three": lambda s, p: touching(s, p, 640, "all", min(12, int(400 / s)), count=3),
    "touching_apart": lambda s, p: burst(s, p, pitch=101, count=3),
    "overlapping_apart": lambda s, p: burst(s, p, pitch=88, count=3),
    **{f"missed_{n}": lambda s, p, n=n: missed(s, p, 560, n) for n in (1, 3, 5)},
    "missed_row_5": lambda s, p: missed(s, p, 560, 5, count=5),
    "missed_early": lambda s, p: missed(s, p, 90, 3, count=5, pitch=140),
    "missed_20": lambda s, p: lossy(s, p, 8, 130, miss=0.2),
    "missed_20_late": lambda s, p: lossy(s, p, 8, 130, miss=0.2, late=0.9),
    "lost_20": lambda s, p: lossy(s, p, 8, 130, lost=0.2),
    "lost_20_late": lambda s, p: lossy(s, p, 8, 130, lost=0.2, late=0.9),
    "lost_10_missed_10_late": lambda s, p: lossy(s, p, 8, 130, lost=0.1, miss=0.1, late=0.9),
    "reflected": lambda s, p: reflected(s, p, 5, 150),
    "lanes": lambda s, p: lanes(s, p, 6, 130),
    "lanes_shifted": lambda s, p: lanes(s, p, 6, 130, 65),
    "lanes_tight": lambda s, p: lanes(s, p, 6, 104),
    "stops_dead": lambda s, p: stops_dead(s, p, 5, 130, 800),
    "stops_dead_tight": lambda s, p: stops_dead(s, p, 5, 104, 800),
    "bystanders": lambda s, p: bystanders(s, p, 6, 140),
}


def tall(scene: Scene) -> Scene:
    """The same with parts as tall as the cut-outs are; reflections begin where parts end."""
    height_of = {170: 120, 295: 330, 200: 120, 325: 300, 420: 370}
    things = [
        replace(t, height=180, path=tuple(p and (p[0], height_of.get(p[1], p[1])) for p in t.path))
        for t in scene.things
    ]
    return replace(scene, things=tuple(things))


# The sequences in tests/data/sequences that a real detector made: name → what happens, and the scene.
RECORDED: dict[str, tuple[str, Callable[[], Scene]]] = {
    "one_part": ("one part goes through", lambda: Scene(row(_until_out(20), 1, 0))),
    "burst": ("ten parts in a row at half a pitch per picture, then nothing", lambda: burst(55, 20, 112)),
    "burst_fast": ("ten parts in a row at 0.8 pitches per picture, then nothing", lambda: burst(88, 30, 110)),
    "stops_on_line": ("stops on the line and trembles there for 4 s", lambda: stops_on_line(20, 7)),
    "turns_before": ("turns back before the line", lambda: turns(22, 5, 560, again=False)),
    "turns_after_and_again": ("turns back beyond the line, and comes again", lambda: turns(22, 5, 800, again=True)),
    "row_turns_and_again": ("a row turns back and comes again", lambda: turns(30, 5, 900, again=True, count=4)),
    "returns_before": ("leaves backwards before the line, and comes again", lambda: returns(25, 3, 500)),
    "returns_after": ("crosses, leaves backwards, and comes again: two parts", lambda: returns(25, 3, 800)),
    "touching": ("four parts that touch", lambda: burst(16, 3, pitch=98, count=4)),
    "overlapping": ("four parts, each covers two fifths of the next", lambda: burst(16, 3, pitch=60, count=4)),
    "catching_up": ("one catches up, covers half of the other over the line, and stays behind again", catching_up),
    "missed_5": ("hidden for five pictures at the line", lambda: missed(22, 5, 590, 5, count=3, pitch=150)),
    "lost_20_late": ("every fifth picture is lost, stamps are late", lambda: lossy(35, 3, 6, 130, lost=0.2, late=0.9)),
    "reflected": (
        "each with its reflection; the line ends at the belt's edge",
        lambda: reflected(20, 3, 4, 150, ((0.5, 0.0), (0.5, 0.5))),
    ),
    "lanes": ("two rows side by side", lambda: lanes(25, 3, 4, 130)),
    "stops_dead": ("a tight row stops from one picture to the next", lambda: stops_dead(60, 5, 5, 108, 800)),
    "bystanders": ("a part lies beside the belt, another is carried across it", lambda: bystanders(25, 3, 5, 150)),
}
