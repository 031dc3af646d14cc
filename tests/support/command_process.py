"""Run the command in a process of its own: without a terminal, where nothing heavy is loaded, or on one."""

import os
import pty
import subprocess
import sys

PROGRAM = (
    "import sys, atexit\n"
    "atexit.register(lambda: print('LOADED', *sorted({'tensorflow', 'keras', 'numba'} & set(sys.modules))))\n"
    "sys.argv[0] = 'deeplabctl'\n"
    "from deeplabctl.cli.app import main\n"
    "main()\n"
)


def run_without_tensorflow(*arguments, cwd, loaded=""):
    """Run the command, which may load numba only if it is named; returns (exit code, stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=180
    )
    stdout, _, found = done.stdout.rpartition("LOADED")
    assert found.strip() == loaded
    return done.returncode, stdout, done.stderr


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
