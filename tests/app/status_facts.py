"""What a running agent says of itself."""

from typing import Any

CAMERA = {
    "condition": "open",
    "fps": 29.97,
    "frames": 54321,
    "taken": 54300,
    "dropped": 21,
    "timeouts": 0,
    "losses": 0,
    "skipped": 0,
    "age_ms": 12.0,
    "faults": [],
    "unhealthy": 0,
    "picture": None,
}


def verdict(seq: int, word: str = "pass", *reasons: dict[str, Any]) -> dict[str, Any]:
    """One of the last ones."""
    at = f"2026-11-21T09:14:{seq % 60:02}.446Z"
    told = {"camera": "top", "seq": seq, "part_id": f"top-{seq}", "verdict": word, "reasons": list(reasons)}
    return {**told, "total_ms": 33.9, "at": at}


def facts_of(cameras: int = 1, **more: Any) -> dict[str, Any]:
    """A document of the status socket; `more` replaces or adds keys."""
    health = {
        "uptime_s": 273_120.0,
        "cameras": dict.fromkeys(["top", *(f"camera-{number}" for number in range(2, cameras + 1))], CAMERA),
        "verdicts": {"pass": 1790, "reject": 40, "unknown": 4, "unknown.no_frame": 4},
        "unsent": {"no_connection": 3},
        "frames_failed": 0,
        "latency_ms": {
            "infer": {"p50": 31.8, "p99": 36.0, "max": 80.1},
            "total": {"p50": 33.9, "p99": 41.2, "max": 88.0},
        },
        "records": {"waiting": 0, "delivered": 1840, "dropped_results": 0, "refused": 0},
        "shedding": [],
        "temperature_c": 61.2,
        "throttled": [],
        "memory_available_mb": 2200.0,
        "rss_mb": 163.0,
        "disk_free_mb": 54_000.0,
        "clock": {"synced": True, "max_error_ms": 0.8},
    }
    facts = {
        "name": "line3",
        "config": "/etc/edge-agent/line3.toml",
        "pid": 1234,
        "boot_id": "5f0c",
        "version": "0.9.0",
        "session": "5f0c",
        "started_at": "2026-11-18T05:22:03.446Z",
        "at": "2026-11-21T09:14:03.446Z",
        "state": "running",
        "reasons": [],
        "ended": None,
        "device": "cap-01",
        "place": "leon/bottling/3/capper",
        "board": "NVIDIA Jetson Orin Nano Developer Kit",
        "profile": "jetson-orin-nano",
        "engine": {"backend": "tensorrt", "runtime": "TensorRT 10.3", "decoder": "yolo", "reason": ""},
        "model": {"name": "caps", "version": "1.4.0", "sha256": "9b1c"},
        "workshop": None,
        "config_sha256": "77aa",
        "deadline_ms": 150.0,
        "parts": {"opened": 1834, "closed": 1834, "per_s": 2.31},
        "recent": [verdict(seq) for seq in range(1825, 1834)]
        + [verdict(1834, "reject", {"rule": "defect", "label": "crack", "score": 0.93})],
        "outlet": "mqtt.plant:8883",
        "links": {"line": True, "records": True},
        "queues": {"frames": {"top": 0}, "records": 0},
        "threads": {"pipeline": 0.1, "timer": 0.0},
        "watchdog": 30.0,
        "health": health,
        "age_s": 0.4,
    }
    return {**facts, **more}
