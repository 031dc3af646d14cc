"""A Hugging Face hub on this machine: repositories of files that are read, and commits that are kept."""

import base64
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._resolve(body=False)

    def do_GET(self):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.asked.append(self.path)
        if parts[:2] != ["api", "models"]:
            self._resolve(body=True)
        elif (name := "/".join(parts[2:4])) not in self.server.repos or (parts[5:] or ["main"])[0] not in ("main", SHA):
            self._refuse()
        else:
            siblings = [{"rfilename": file} for file in self.server.repos[name]]
            self._answer({"id": name, "modelId": name, "sha": SHA, "private": False, "tags": [], "siblings": siblings})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer hf_test":
            self._refuse()
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            name = "/".join(self.path.split("/")[3:5])
            self.server.repos[name] |= {each["path"]: base64.b64decode(each["content"]) for each in files}
            self._answer({"success": True, "commitUrl": f"{self.server.base}/{name}/commit/{SHA}", "commitOid": SHA})
        elif self.path == "/api/repos/create":
            facts = json.loads(body)
            name = f"{facts.get('organization') or 'user'}/{facts['name']}"
            self.server.repos.setdefault(name, {})
            self._answer({"url": f"{self.server.base}/{name}", "name": name})
        else:
            self._answer({})

    def _resolve(self, *, body):
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")  # user, name, "resolve", revision, file
        content = self.server.repos.get("/".join(parts[:2]), {}).get("/".join(parts[4:]))
        if content is None:
            self._refuse()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _refuse(self):
        self._answer({"error": "Invalid credentials or no such repository"}, 401)

    def _answer(self, document, status=200):
        content = json.dumps(document).encode() if self.command != "HEAD" else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def fake_hub(**repos):
    """Serve repositories, {"user/name": {file: bytes}}; yields the server, whose ``base`` is its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.repos, server.asked = repos, []
    server.base = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
