"""The header that may stand before a TensorRT plan in an `.engine` file: a length, and metadata as JSON.

Ultralytics writes such files: four bytes, the length of the JSON as a little-endian number, the JSON, the plan. The
names of the classes are in it, which a plan itself cannot hold. A plan alone begins with letters of its own, which read
as a length of over a gigabyte.
"""

import json
from collections.abc import Mapping
from typing import Any

LENGTH_BYTES = 4
OURS = "edge_agent"
"""The key of the metadata below which our own facts stand; all others are the model's."""

JSON_MOST = 16 << 20
"""Bytes of JSON. A longer header is none: the file is a plan, or nothing of ours."""


def json_bytes(start: bytes | memoryview) -> int:
    """The length of the JSON that a file announces whose first bytes these are; 0 where it has no header.

    `start` needs `LENGTH_BYTES` and one more: the JSON is an object, so that it begins with a brace.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    has_brace = bytes(start[LENGTH_BYTES : LENGTH_BYTES + 1]) == b"{"
    return length if has_brace and length <= JSON_MOST else 0


def split(data: bytes | memoryview) -> tuple[dict[str, Any], int]:
    """The metadata before a plan, and where the plan begins; `({}, 0)` where there is only a plan.

    Args:
        data: the file, or at least its header.

    Raises:
        ValueError: the header is cut off, or is not JSON.
    """
    length = json_bytes(data)
    if not length:
        return {}, 0
    end = LENGTH_BYTES + length
    if len(data) < end:
        raise ValueError(f"its header says that it has {length} bytes, but only {len(data) - LENGTH_BYTES} are there")
    try:
        metadata = json.loads(bytes(data[LENGTH_BYTES:end]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON ({error})") from None
    return metadata, end


def make(metadata: Mapping[str, Any]) -> bytes:
    """The header with this metadata, to be written before a plan. The same metadata gives the same bytes.

    Raises:
        ValueError: it is longer than a header may be.
        TypeError: there is something in it that JSON does not know.
    """
    text = json.dumps(metadata).encode()
    if len(text) > JSON_MOST:
        raise ValueError(f"the metadata takes {len(text)} bytes as JSON, and {JSON_MOST} is the most")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text
