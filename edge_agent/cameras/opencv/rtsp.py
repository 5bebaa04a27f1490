"""Why a network camera does not open: it is asked once more, in RTSP's words (RFC 2326), for OpenCV does not tell."""

import re
import socket
from urllib.parse import urlsplit

_PORT = 554  # RFC 2326, 3.2
_TIMEOUT_S = 2.0
_PERHAPS = "is the camera on, is the address right, are name and password right?"


def unknown_host(url: str) -> str | None:
    """What is wrong with the name of the host, in words; None: nothing.

    To be asked first: where no name server answers, each further look-up costs as many seconds again, and no timeout of
    OpenCV's holds for it.
    """
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        if host and "{" not in host:
            socket.getaddrinfo(host, None)
    except OSError:
        return f"nobody knows a host of the name {host}: is the address right, does the name server answer?"
    except ValueError:  # also of names that cannot be encoded
        return "its address cannot be read: is it right?"
    return None


def trouble(url: str, *, has_password: bool) -> str:
    """What is wrong, in words.

    Args:
        url: without name and password; asking without them tells enough.
        has_password: whether one was given when it was opened.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:
        return "its port is no number"
    if parts.scheme != "rtsp" or "{" in url:
        return _PERHAPS
    try:
        status = _status(url, host, port)
    except ConnectionRefusedError:
        return f"nobody listens at port {port}: is the camera on, is the address right?"
    except OSError as error:
        return f"no answer ({error.strerror or 'it takes too long'}): {_PERHAPS}"
    return _in_words(status, has_password=has_password)


def _status(url: str, host: str, port: int) -> int | None:
    """What the camera answers when asked to describe the stream; None where that is not RTSP."""
    question = f"DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\nUser-Agent: edge-agent\r\n\r\n"
    with socket.create_connection((host, port), _TIMEOUT_S) as connection:
        connection.sendall(question.encode())
        answer = connection.recv(1024)
    match = re.match(rb"RTSP/1\.\d (\d{3}) ", answer)
    return int(match[1]) if match else None


def _in_words(status: int | None, *, has_password: bool) -> str:
    if status is None:
        return "what answers there is no RTSP camera"
    known = {
        200: "it answers, but gives no video that OpenCV can decode",
        401: "it asks for a name and a password: set username and password_file",
        403: "it refuses us (403): who may see the stream is set in the camera",
        404: "it has no stream of that path (404): the camera's manual names it",
        453: "it has no bandwidth left (453): does another program watch it?",
        503: "it is busy (503): does another program watch it?",
    }
    if status == 401 and has_password:  # noqa: PLR2004 - RFC 2326, 7.1.1: unauthorised
        return "it refuses the name, the password or the path: are username, password_file and source right?"
    return known.get(status, f"it answers with {status}")
