"""Pictures of parts that did not pass: what they show, and how many of them the device keeps."""

from collections.abc import Mapping

import cv2
import numpy as np

from edge_agent.app.annotate import draw_on
from edge_agent.app.places import own_folder
from edge_agent.config import AgentConfig, LineTrigger
from edge_agent.core.datatypes import Detections, Image
from edge_agent.core.lines import Direction, Segment
from edge_agent.runtime.agent import Agent
from edge_agent.runtime.album import Caps
from edge_agent.runtime.evidence import FOLDER, Evidence
from edge_agent.runtime.forms import Sent
from edge_agent.runtime.scribe import Scribe
from edge_agent.wire.messages import utc_text

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


def keep_pictures(agent: Agent, config: AgentConfig) -> Evidence:
    """Has the desk offer each such part to what keeps the pictures."""
    desk, scribe = agent.desk, agent.scribe

    def tell(sent: Sent, name: str) -> None:
        if desk.recorder:
            desk.recorder.note("picture", {"camera": sent.part.camera, "seq": sent.seq, "file": name})

    folder = own_folder(config) / FOLDER
    evidence = Evidence(folder, scribe.identity.session, caps_of(config), draw=Artist(scribe, config).draw, tell=tell)
    desk.evidence = agent.health.evidence = evidence
    return evidence


def caps_of(config: AgentConfig) -> Caps:
    """The most that is kept. Records come first: pictures leave them their room on the disk."""
    evidence = config.evidence
    return Caps(evidence.keep, evidence.max_mb, evidence.max_days, config.records.min_free_mb)


class Artist:
    """Draws what was found, the line that parts cross, and below the picture what was made of it."""

    def __init__(self, scribe: Scribe, config: AgentConfig) -> None:
        self._scribe = scribe
        self._lines: Mapping[str, tuple[Segment, Direction]] = {
            camera.id: (camera.trigger.line, camera.trigger.direction)
            for camera in config.cameras
            if isinstance(camera.trigger, LineTrigger)
        }

    def draw(self, image: Image, detections: Detections, sent: Sent) -> Image:
        """A copy of the picture, with a strip of text below it: no pixel of the part is written over by words."""
        strip, height = _strip(self._caption(sent), image.shape[1]), image.shape[0]
        picture: Image = np.empty((height + len(strip), *image.shape[1:]), np.uint8)
        picture[:height], picture[height:] = image, strip
        draw_on(picture[:height], detections, self._scribe.labels, *self._lines.get(sent.part.camera, ()))
        return picture

    def _caption(self, sent: Sent) -> str:
        reasons = "; ".join(
            " ".join(filter(None, (r.code, r.rule, r.label, None if r.score is None else f"{r.score:.2f}")))
            for r in sent.decision.reasons
        )
        at = utc_text(self._scribe.clock.utc_of(sent.captured_ns))
        return f"{sent.part.id}  {sent.decision.verdict}: {reasons}  {at}"


def _strip(text: str, width: int) -> Image:
    """White on black, as large as it fits, `(H, width, 3) uint8`."""
    font, scale, room = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, width / 1600), width - 8
    (wide, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, room / max(1, wide))
    (_, high), below = cv2.getTextSize(text, font, scale, 1)
    strip: Image = np.full((high + 2 * below + 6, width, 3), _BLACK, np.uint8)
    cv2.putText(strip, text, (4, high + below + 2), font, scale, _WHITE, 1, cv2.LINE_AA)
    return strip
