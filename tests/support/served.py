"""Run ``deeplabctl serve`` in a process of its own, and talk to it: by HTTP, or byte by byte."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from command_process import PROGRAM


class Served:
    """Hold a running service, on any free port, in a folder of its own, which is also that of temporary files."""

    def __init__(self, folder, *options):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", "--json", *map(str, options)]
        environment = os.environ | {"TMPDIR": str(folder)}
        with (folder.parent / f"{folder.name}.err").open("w+") as self.err:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=self.err, text=True, env=environment
            )
        document = ""
        while line := self.process.stdout.readline():
            document += line
            if line == "}\n":
                break
        if not document:
            self.process.communicate()
            raise AssertionError(self.errors())
        self.facts = json.loads(document)
        self.url = self.facts["url"]
        self.address = self.url.removeprefix("http://").rsplit(":", 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def errors(self):
        """Return what it wrote to stderr."""
        return (self.folder.parent / f"{self.folder.name}.err").read_text()

    def end(self, number):
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def get(self, path):
        """Return the body of an answer."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def wait_until_refused(self):
        """Wait until it takes no connections any more."""
        with suppress(OSError):
            while self.get("/healthz"):
                pass

    def connect(self):
        """Return a connection."""
        return socket.create_connection((self.address[0], int(self.address[1])), timeout=30)

    def connect_slow(self):
        """Return a connection whose reader's side has room for few bytes."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.settimeout(30)
        connection.connect((self.address[0], int(self.address[1])))
        return connection

    def exchange(self, *parts):
        """Send bytes, and return all that comes until the connection is closed."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return rest_of(connection)

    def peak_memory(self):
        """Return the most bytes that the process had at once."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def head(path="/api/segment", kind="image/png", **headers):
    """Return the head of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def rest_of(connection):
    """Return all that comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        found += b"(reset)"
    return found
