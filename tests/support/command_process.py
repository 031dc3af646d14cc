"""Run the command in a process of its own: in a fork, where nothing heavy is loaded, or on a terminal."""

import atexit
import os
import pty
import subprocess
import sys
from functools import cache

from forked_commands import LIGHT, CommandServer

PROGRAM = "import sys; sys.argv[0] = 'deeplabctl'; from deeplabctl.cli.app import main; main()"


@cache
def server():
    """Return a server of commands that has loaded the command line, for the rest of this process."""
    started = CommandServer(LIGHT)
    atexit.register(started.__exit__)
    return started


def run_without_tensorflow(*arguments, cwd, loaded=""):
    """Run the command, which may load numba only if it is named; returns (exit code, stdout, stderr)."""
    ended = server().run(*arguments, cwd=cwd, environment=dict(os.environ))
    assert " ".join({"tensorflow", "keras", "numba"}.intersection(ended.modules)) == loaded
    return ended.code, ended.out, ended.err


def fails_with_one_line(message, *arguments, cwd):
    """Check that the command ends with exit code 1 and one error line that has the message; returns stderr."""
    code, out, err = run_without_tensorflow(*arguments, cwd=cwd)
    assert code == 1
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err.splitlines()[-1]
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (cwd / "runs").exists()
    return err


def on_a_terminal(*arguments, **environment):
    """Run the command with its output on a terminal; returns what the terminal gets."""
    terminal, end = pty.openpty()
    unset = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplabctl", *arguments], stdout=end, stderr=end, stdin=end,
        env=unset | {"TERM": "xterm", "COLUMNS": "80"} | environment,
    )  # fmt: skip
    os.close(end)
    output = b""
    try:
        while part := os.read(terminal, 1 << 16):
            output += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    process.wait(timeout=180)
    return output.decode().replace("\r\n", "\n")
