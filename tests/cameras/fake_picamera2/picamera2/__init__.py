"""A stand-in for Raspberry Pi's library of this name, for machines that have no such camera: it makes its own pictures.

It keeps to the signatures, the reference counts, the one-deep queue and the order of jobs of Picamera2 0.3. What it
does not have: streams other than `main`, formats other than RGB888, previews, encoders, and any image processing.
It is stricter than the original in two things: a buffer that goes back to the camera is overwritten at once, and one
that is still mapped by somebody who gave it back makes `close` fail.
"""

import mmap
import os
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future

import numpy as np

IMX708 = [
    {"size": (1536, 864), "bit_depth": 10, "fps": 120.13, "crop_limits": (768, 432, 3072, 1728)},
    {"size": (2304, 1296), "bit_depth": 10, "fps": 56.03, "crop_limits": (0, 0, 4608, 2592)},
    {"size": (4608, 2592), "bit_depth": 10, "fps": 14.35, "crop_limits": (0, 0, 4608, 2592)},
]


class Rig:
    """What is plugged in, and how it behaves: tests set it."""

    def __init__(self):
        self.cameras = [
            {"Model": "imx708", "Location": 2, "Rotation": 180, "Id": "/base/i2c@88000/imx708@1a", "Num": 0}
        ]
        self.modes = IMX708
        self.controls = {
            "AfMode": (0, 2, 0),
            "AnalogueGain": (1.12, 16.0, 1.0),
            "ExposureTime": (26, 220_000, 20_000),
            "LensPosition": (0.0, 32.0, 1.0),
            "NoiseReductionMode": (0, 4, 0),
        }
        self.free_running = False  # if not, it exposes when somebody asks
        self.frames_left = None  # None: for ever
        self.busy = False
        self.format = None  # what it gives in place of what was asked for
        self.clock_lead_ns = 0  # of its time stamps, before CLOCK_MONOTONIC
        self.boundary = 64  # bytes; where each row of a buffer begins
        self.starved = 0  # pictures that found no buffer
        self.opened = []


RIG = Rig()


class Job:
    def __init__(self, functions, signal_function=None):
        self._functions = functions
        self._future = Future()
        self._future.set_running_or_notify_cancel()
        self._result = None

    def execute(self):
        while self._functions:
            done, result = self._functions[0]()
            if not done:
                break
            self._functions.pop(0)
            self._result = result
        return not self._functions

    def signal(self):
        if not self._future.done():
            self._future.set_result(self._result)

    def get_result(self, timeout=None):
        return self._future.result(timeout=timeout)

    def cancel(self):
        self._future.set_exception(CancelledError())


class _Request:
    """libcamera's own."""

    def __init__(self, memory):
        self.memory, self.sequence, self.metadata, self.used = memory, 0, {}, False


class CompletedRequest:
    def __init__(self, request, picam2):
        self.request, self.picam2 = request, picam2
        self.ref_count = 1
        self.lock = picam2.request_lock
        self.stop_count = picam2.stop_count
        self.config = {key: value.copy() if isinstance(value, dict) else value for key, value in picam2._config.items()}
        request.used = True

    def acquire(self):
        with self.lock:
            assert self.ref_count > 0
            self.ref_count += 1

    def release(self):
        with self.lock:
            self.ref_count -= 1
            if self.ref_count < 0:
                raise RuntimeError("CompletedRequest: lock now has negative ref_count")
            if self.ref_count == 0:
                self.request.used = False
                if self.picam2.started and self.stop_count == self.picam2.stop_count:
                    self.picam2._queue(self.request)
                self.request = self.config = None

    def get_metadata(self):
        return dict(self.request.metadata)

    def make_array(self, name):
        with MappedArray(self, name, write=False) as mapped:
            return mapped.array.copy()


class MappedArray:
    def __init__(self, request, stream, reshape=True, write=True):
        self._request, self._stream, self._reshape, self._array = request, stream, reshape, None

    def __enter__(self):
        array = np.frombuffer(self._request.request.memory, np.uint8)
        if self._reshape:
            (width, height), stride = (self._request.config[self._stream][key] for key in ("size", "stride"))
            array = array.reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)
        self._array = array
        return self

    def __exit__(self, exc_type, exc_value, exc_traceback):
        del self._array

    @property
    def array(self):
        return self._array


class Picamera2:
    @staticmethod
    def global_camera_info():
        return RIG.cameras

    def __init__(self, camera_num=0, verbose_console=None, tuning=None, allocator=None):
        self.notifyme_r, self.notifyme_w = os.pipe2(os.O_NONBLOCK)
        self.notifymeread = os.fdopen(self.notifyme_r, "rb")
        self.is_open = self.started = False
        self.camera_num = RIG.cameras[camera_num]["Num"]
        try:
            if RIG.busy:
                raise OSError(16, "Failed to acquire camera: Device or resource busy")  # noqa: TRY301 - likewise
        except OSError:
            raise RuntimeError("Camera __init__ sequence did not complete.")  # noqa: B904 - as the original
        self.request_lock, self.lock = threading.Lock(), threading.Lock()
        self._wake = threading.Condition(threading.Lock())
        self._prodded = False
        self._job_list, self.completed_requests, self._requests = [], [], []
        self._queued = deque()
        self._config = None
        self.stop_count = 0
        self.is_open = True
        RIG.opened.append(self)

    @property
    def sensor_modes(self):
        assert not self.started, "reads the modes by configuring the camera"
        return [
            {"format": "SRGGB10_CSI2P", "unpacked": "SRGGB10", "exposure_limits": (9, None), **m} for m in RIG.modes
        ]

    @property
    def camera_controls(self):
        fastest = max((mode["fps"] for mode in RIG.modes if "fps" in mode), default=30)
        if self._config is not None:
            wanted = self._config["sensor"]["output_size"]
            fastest = next(mode["fps"] for mode in RIG.modes if mode["size"] == wanted)
        return {"FrameDurationLimits": (round(1e6 / fastest), 1_000_000, 33_333), **RIG.controls}

    def create_video_configuration(
        self, main={}, lores=None, raw={}, transform=None, colour_space=None, buffer_count=6, controls={},  # noqa: B006
        display="main", encode="main", queue=True, sensor={}, use_case="video",  # noqa: B006
    ):  # fmt: skip
        assert set(main) <= {"format", "size", "stride", "preserve_ar"}
        assert set(sensor) <= {"output_size", "bit_depth"}
        main = {"format": "XBGR8888", "size": (1280, 720), "preserve_ar": True} | main
        controls = {"NoiseReductionMode": 1, "FrameDurationLimits": (33333, 33333)} | controls
        return {
            "use_case": use_case, "buffer_count": buffer_count, "queue": queue, "main": main, "lores": lores,
            "raw": raw, "controls": controls, "sensor": sensor, "display": display, "encode": encode,
        }  # fmt: skip

    def configure(self, camera_config=None):
        main = camera_config["main"]
        if main["size"][0] % 2 or main["size"][1] % 2:
            raise RuntimeError("width and height should be even")
        if unknown := set(camera_config["controls"]) - set(self.camera_controls):
            raise RuntimeError(f"Control {unknown} is not advertised by libcamera")
        main["format"] = RIG.format or main["format"]
        main["stride"] = -(-main["size"][0] * 3 // RIG.boundary) * RIG.boundary
        self._config = camera_config
        length = main["stride"] * main["size"][1]
        self._requests = [_Request(mmap.mmap(-1, length)) for _ in range(camera_config["buffer_count"])]

    def camera_configuration(self):
        return self._config

    def start(self, config=None, show_preview=False):
        self.started = True
        for request in self._requests:
            self._queue(request)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def capture_request(self, wait=None, signal_function=None, flush=None):
        job = Job([self._capture_request], signal_function)
        with self.lock:
            self._job_list.append(job)
        self._prod()
        timeout = None if wait is None or wait is True else wait
        return job if wait is False else job.get_result(timeout)

    def cancel_all_and_flush(self):
        with self.lock:
            for job in self._job_list:
                job.cancel()
            self._job_list = []

    def stop(self):
        if not self.started:
            return
        with self._wake:
            self.started = False
            self.stop_count += 1
            self._wake.notify_all()
        self._thread.join()
        while self.completed_requests:
            self.completed_requests.pop(0).release()

    def close(self):
        if not self.is_open:
            return
        self.stop()
        self.is_open = False
        self.notifymeread.close()
        os.close(self.notifyme_w)
        for request in self._requests:
            if not request.used:
                request.memory.close()

    def _queue(self, request):
        request.memory[:] = b"\xee" * len(request.memory)
        with self._wake:
            self._queued.append(request)
            self._prodded = True
            self._wake.notify_all()

    def _capture_request(self):
        return (True, self.completed_requests.pop(0)) if self.completed_requests else (False, None)

    def _prod(self):
        with self._wake:
            self._prodded = True
            self._wake.notify_all()

    def _run(self):
        """The sensor, and Picamera2's event loop."""
        sequence, period_s = 0, self._config["controls"]["FrameDurationLimits"][0] / 1e6
        due_s = time.monotonic() + period_s
        while True:
            with self._wake:
                left_s = max(0.0, due_s - time.monotonic()) if RIG.free_running else None
                self._wake.wait_for(lambda: self._prodded or not self.started, left_s)
                self._prodded = False
                if not self.started:
                    return
            self._process([])
            if time.monotonic() >= due_s if RIG.free_running else self._job_list:
                due_s += period_s
                if RIG.frames_left != 0:
                    sequence += self._expose(sequence)

    def _expose(self, sequence):
        with self._wake:
            if not self._queued:
                RIG.starved += 1
                return 0
            request = self._queued.popleft()
        if RIG.frames_left is not None:
            RIG.frames_left -= 1
        (width, height), stride = self._config["main"]["size"], self._config["main"]["stride"]
        row = bytes((10 * sequence % 256, (255 - 10 * sequence) % 256, 100)) * width
        request.memory[:] = (row + b"\xff" * (stride - len(row))) * height
        request.sequence = sequence
        request.metadata = {
            "SensorTimestamp": time.monotonic_ns() + RIG.clock_lead_ns - 1_000,
            "ExposureTime": 10_000,
            "FrameDuration": 33_333,
        }
        self._process([CompletedRequest(request, self)])
        return 1

    def _process(self, requests):
        finished = []
        with self.lock:
            for request in requests:
                request.acquire()
            self.completed_requests += requests
            while self._job_list and self._job_list[0].execute():
                finished.append(self._job_list.pop(0))
            for request in requests:
                request.release()
            while len(self.completed_requests) > (1 if self._config["queue"] else 0):
                self.completed_requests.pop(0).release()
        for job in finished:
            job.signal()
