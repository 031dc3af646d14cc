"""A web server in this process that publishes files, well and badly.

The first part of a path says how a file is sent: "whole" (with ranges), "deaf" (without), "cut" (half of what is asked
for), "cut-deaf" (an eighth), "page" (a web page), "other" (zeros), "large" (says that it has a terabyte), "endless"
(without a length), "chunked" (the same, but all of it), "moved" (redirected to "whole"), "away" (redirected to a local
file), "slow" (half, and the rest after ``go_on``), "mute" (no byte of it),
"shifted" (other bytes than those that are asked for). Anything else is "404 Not Found", or the code that it is.
"""

import http.server
import threading
from contextlib import contextmanager


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.server
        how, _, name = self.path.removeprefix("/").partition("/")
        content = host.files.get(name)
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        host.asked.append((how, begin))
        if how.isdigit() or content is None or how not in HOW:
            self.send_error(int(how) if how.isdigit() else 404)
        elif how in ("moved", "away"):
            self.send_response(302)
            self.send_header("Location", f"/whole/{name}" if how == "moved" else "file:///etc/hostname")
            self.end_headers()
        elif how == "whole" and begin >= len(content):
            self.send_error(416)
        else:
            self._send(how, content, begin)

    def _send(self, how, content, begin):
        host = self.server
        if "deaf" in how or how in ("page", "large", "endless", "chunked"):
            begin = 0
        if self.headers.get("If-Range", host.etag) != host.etag:
            begin = 0
        sent = {"page": b"<html>moved</html>", "other": bytes(len(content))}.get(how, content)[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin + (how == 'shifted')}-{len(content) - 1}/{len(content)}")
        if host.etag:
            self.send_header("ETag", host.etag)
        if how not in ("endless", "chunked"):
            self.send_header("Content-Length", str(1 << 40 if how == "large" else len(sent)))
        self.end_headers()
        if how == "endless":
            while not host.ended:
                self.wfile.write(bytes(1 << 16))
        half = len(sent) // {"cut-deaf": 8, "mute": len(sent) + 1}.get(how, 2)
        self.wfile.write(sent[:half] if how in ("slow", "cut", "cut-deaf", "mute") else sent)
        if how == "slow":
            host.go_on.wait(30)
            self.wfile.write(sent[half:])

    def log_message(self, *_):
        pass


HOW = {
    "whole", "deaf", "cut", "cut-deaf", "page", "other", "large", "endless", "chunked", "moved", "away", "slow", "mute",
    "shifted",
}  # fmt: skip


class _Host(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing of connections that the other end has closed."""


@contextmanager
def web_host(**files):
    """Serve files, by name; yields the server, with its address ``base`` and what was ``asked``: (how, first byte)."""
    host = _Host(("127.0.0.1", 0), _Handler)
    host.files, host.asked, host.etag, host.go_on, host.ended = files, [], "", threading.Event(), False
    host.base = f"http://127.0.0.1:{host.server_port}"
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        host.ended = True
        host.go_on.set()
        host.shutdown()
        thread.join()
        host.server_close()
