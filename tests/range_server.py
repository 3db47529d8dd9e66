"""A web server on this machine that knows byte ranges, and can be told to fail for a while."""

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Files(BaseHTTPRequestHandler):
    def __init__(self, *args, root: Path, trouble: "Trouble", **kwargs) -> None:
        self._root, self._trouble = root, trouble
        super().__init__(*args, **kwargs)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self._root / self.path.partition("?")[0].lstrip("/")
        if self._trouble.strikes():
            self.send_error(503)
        elif not path.is_file():
            self.send_error(404)
        else:
            self._send(path.read_bytes(), body=body)

    def _send(self, data: bytes, *, body: bool) -> None:
        asked = self.headers.get("Range", "") if self._trouble.ranges else ""
        first, last, whole = 0, len(data) - 1, len(data)
        if asked:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first, last = int(low), min(int(high), last) if high else last
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        else:
            self.send_response(200)
        if self._trouble.ranges:
            self.send_header("Accept-Ranges", "bytes")
        part = data[first : last + 1]
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hash(data)}"')
        self.end_headers()
        self._trouble.bytes_sent += len(part) if body else 0
        if body:
            self.wfile.write(part)


class Trouble:
    """What is wrong with the server.

    Attributes:
        requests: that fail from now on.
        ranges: whether it knows byte ranges.
        bytes_sent: of bodies, so far.
    """

    def __init__(self) -> None:
        self.requests, self.ranges, self.bytes_sent = 0, True, 0
        self._lock = threading.Lock()

    def strikes(self) -> bool:
        """Whether this request fails."""
        with self._lock:
            self.requests -= 1
            return self.requests >= 0


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[str, Trouble]]:
    """The address that serves `root` while the block runs, and its trouble."""
    trouble = Trouble()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, root=root, trouble=trouble))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", trouble
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
