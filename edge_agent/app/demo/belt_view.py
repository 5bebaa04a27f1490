"""The belt in characters: bottles as the simulator's truth has them, in the colour of their verdicts."""

from rich.text import Text

from edge_agent.app.score import CameraScorer, Judged
from edge_agent.app.truth import TruePart

WORD_STYLES = {"pass": "green", "reject": "red", "unknown": "yellow"}
_WAITING = "bright_black"
_ROWS, _BELT, _TAG = 7, 5, 6
_NARROWEST = 7


class BeltView:
    """A grid of characters, each with a style; `(0, 0)` is the upper left one."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._grid = [[(" ", "")] * columns for _ in range(_ROWS)]

    def text(self) -> Text:
        """All rows."""
        text = Text(no_wrap=True, overflow="crop")
        for number, row in enumerate(self._grid):
            text.append("\n" if number else "")
            for character, style in row:
                text.append(character, style)
        return text

    def put(self, row: int, column: int, characters: str, style: str = "") -> None:
        """Writes from there to the right; what lies outside is cut off."""
        for index, character in enumerate(characters, column):
            if 0 <= index < self._columns:
                self._grid[row][index] = (character, style)


def draw_belt(camera: CameraScorer, now_ns: int, columns: int) -> Text:
    """What is before the camera now."""
    belt, view = camera.truth.belt, BeltView(columns)
    if not belt.camera_width:
        return view.text()
    per_column_px = belt.camera_width / columns
    run_px = belt.run_px(now_ns)
    phase = int(run_px / per_column_px)
    phase = phase if belt.direction == "left" else -phase
    view.put(_BELT, 0, "".join("━╸"[(index + phase) % 8 == 0] for index in range(columns)), "bright_black")
    line = int(belt.line * columns)
    for row in range(_BELT):
        view.put(row, line, "┊", "cyan")
    judged = {one.part.number: one for one in camera.judged()[0][-20:]}
    width = max(_NARROWEST, int(belt.part_width_px / per_column_px) - 1)
    for part in list(camera.truth.entered.values())[-20:]:
        x_px = run_px - belt.run_px(part.entered_ns) - belt.part_width_px / 2  # of its centre, from where it came in
        x_px = belt.camera_width - x_px if belt.direction == "left" else x_px
        _draw_bottle(view, part, judged.get(part.number), int(x_px / per_column_px) - width // 2, width)
    return view.text()


def _draw_bottle(view: BeltView, part: TruePart, judged: Judged | None, left: int, width: int) -> None:
    word = judged.verdicts[0].word if judged and judged.verdicts else ""
    style = WORD_STYLES.get(word, _WAITING)
    third, half = width // 3, width // 2
    if "cap_missing" not in part.defects:
        view.put(0, left + (width - half) // 2, "▄" * half, style)
    view.put(1, left + third, "█" * (width - 2 * third), style)
    for row in (2, 3, 4):
        view.put(row, left, "█" * width, style)
    label = "reverse " + style
    if "label_misaligned" in part.defects:
        view.put(3, left + 1, " " * (half - 1), label)
        view.put(4, left + half, " " * (width - half - 1), label)
    else:
        view.put(3, left + 1, " " * (width - 2), label)
    if "crack" in part.defects:
        view.put(2, left + width - 3, "/\\", label)
        view.put(4, left + 1, "\\/", label)
    if judged and word:
        sign = "✓" if judged.outcome == "right" else "✗"
        view.put(_TAG, left, f"{word}{sign}"[: width + 1], style if judged.outcome == "right" else "bold magenta")
