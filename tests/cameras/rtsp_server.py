"""A real RTSP server for tests, by GStreamer: `python3 rtsp_server.py --size 320x240 ...`, with the system's Python.

It says `ready PORT` on standard output and takes commands on standard input: `size 640x480` and `fps 1` change size and
rate from the next picture on. Each picture carries the time when it was made, as bars that survive compression: `age_ms` in
`tests/cameras/rtsp.py` reads it. It needs python3-gi, gir1.2-gst-rtsp-server-1.0 and GStreamer's plugins base, good
and ugly (x264); no numpy.
"""

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BITS = 20  # of the time in milliseconds: it comes round after 17 minutes
VIDEO = (
    "( appsrc name=source is-live=true format=time ! queue max-size-buffers=2 leaky=downstream ! "
    "x264enc {tune} key-int-max={keys} speed-preset=ultrafast byte-stream=true ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
SOUND = "( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay0 pt=8 )"


def picture(width, height, stamp_ms):
    """Grey, in I420, with one upright bar for each bit of the time: white for 1, black for 0; the highest bit first."""
    edges = [width * bit // BITS for bit in range(BITS + 1)]
    bits = [stamp_ms >> (BITS - 1 - bit) & 1 for bit in range(BITS)]
    row = b"".join(bytes([235 if on else 16]) * (edges[k + 1] - edges[k]) for k, on in enumerate(bits))
    return row * height + bytes([128]) * (width * height // 2)


class Picturer:
    """Feeds one pipeline: each client has its own, unless the stream is shared."""

    def __init__(self, source, size, fps):
        self._source, self._size, self._fps = source, size, fps
        self._first_fps = fps()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        """Time stamps run on as the clock does: rates may change."""
        started_s = due_s = time.monotonic()
        told = None
        while True:
            time.sleep(max(0.0, due_s - time.monotonic()))
            width, height = size = self._size()
            if size != told:
                caps = f"video/x-raw,format=I420,width={width},height={height},framerate={round(1000 * self._first_fps)}/1000"
                self._source.set_property("caps", Gst.Caps.from_string(caps))
                told = size
            buffer = Gst.Buffer.new_wrapped(picture(width, height, int(time.monotonic() * 1000)))
            buffer.pts = buffer.dts = int((due_s - started_s) * Gst.SECOND)
            buffer.duration = int(Gst.SECOND / self._fps())
            if self._source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            due_s += 1 / self._fps()


class Server:
    """One path with one stream."""

    def __init__(self, options):
        self.size = tuple(map(int, options.size.split("x")))
        self.fps = options.fps
        self._options = options
        self._server = GstRtspServer.RTSPServer()
        self._server.set_address("127.0.0.1")
        self._server.set_service(str(options.port))
        factory = GstRtspServer.RTSPMediaFactory()
        tune = "bframes=2 tune=0" if options.reorder else "tune=zerolatency"
        factory.set_launch(SOUND if options.sound else VIDEO.format(keys=options.keys, tune=tune))
        factory.set_shared(options.shared)
        factory.connect("media-configure", self._configure)
        if options.user:
            self._guard(factory)
        self._server.get_mount_points().add_factory(options.path, factory)
        self._server.attach(None)

    @property
    def port(self):
        return self._server.get_bound_port()

    def _configure(self, _factory, media):
        if not self._options.sound:
            source = media.get_element().get_by_name("source")
            Picturer(source, lambda: self.size, lambda: self.fps)

    def _guard(self, factory):
        auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "user")
        user, password = self._options.user, self._options.password
        if self._options.basic:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        self._server.set_auth(auth)
        may = Gst.Structure.from_string("user,media.factory.access=true,media.factory.construct=true")[0]
        factory.add_role_from_structure(may)


def say(words):
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def take_commands(server, loop):
    """Until standard input ends: whoever started this is gone then."""
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word == "size":
            server.size = tuple(map(int, value.split("x")))
        elif word == "fps":
            server.fps = float(value)
        say("done")
    loop.quit()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="/cam")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--keys", type=int, default=25, help="pictures from one key frame to the next")
    parser.add_argument("--shared", action="store_true", help="a second client gets the stream where it stands")
    parser.add_argument("--reorder", action="store_true", help="with B frames")
    parser.add_argument("--sound", action="store_true", help="sound, and no video")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--basic", action="store_true")
    Gst.init(None)
    server, loop = Server(parser.parse_args()), GLib.MainLoop()
    threading.Thread(target=take_commands, args=(server, loop), daemon=True).start()
    say(f"ready {server.port}")
    loop.run()


if __name__ == "__main__":
    main()
