"""A web server on loopback that also breaks off, lies and refuses."""

import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """A web server: what it has, how it answers the next requests, and what it was asked for and sent."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.url = f"{self.base}/set.zip"
        self.files = {}
        self.answers = []
        self.requests = []
        self.sent = 0
        self.go_on = threading.Event()

    @property
    def ranges(self):
        return [request.headers.get("Range") for request in self.requests]


def serve(
    request,
    breaks_after=None,
    knows_ranges=True,
    heeds_if_range=True,
    mark="ETag",
    weak="",
    length=None,
    pauses=False,
    misplaces=False,
):
    """Answer a GET as a good server does, but for what the arguments say."""
    site, content = request.server.site, request.server.site.files[request.path]
    tag = f'{weak}"{hashlib.md5(content).hexdigest()}"'
    wanted = request.headers.get("Range") if knows_ranges else None
    if heeds_if_range and request.headers.get("If-Range") != tag:
        wanted = None
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
    if wanted and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.end_headers()
        return
    if misplaces:
        start = 0
    body = content[start:]
    request.send_response(206 if wanted else 200)
    if mark:
        request.send_header(mark, tag)
    if wanted:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if length != "none":
        request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    body = body[:breaks_after]
    site.sent += len(body)
    request.wfile.write(body)
    if pauses:
        request.wfile.flush()
        site.go_on.wait(60)


def answer(**options):
    return lambda request: serve(request, **options)


def status(code, location=None):
    def answer(request):
        request.send_response(code)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def reset(request):
    """Break the connection the hard way, in the middle of the body."""
    request.send_response(200)
    request.send_header("Content-Length", "1000000")
    request.end_headers()
    request.wfile.write(b"x" * 1000)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def hang_up(request):
    request.connection.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.site.requests.append(self)
        answers = self.server.site.answers
        (answers.pop(0) if answers else serve)(self)

    def log_message(self, *args):
        pass

    def handle(self):
        with contextlib.suppress(OSError):  # the client is gone
            super().handle()

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()


@contextlib.contextmanager
def running() -> Iterator[Site]:
    """A site that runs until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = Site(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.site
    server.site.go_on.set()
    server.shutdown()
    server.server_close()
