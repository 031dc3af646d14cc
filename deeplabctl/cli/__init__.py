"""Command line in, text out: options into calls, results into lines. The only room that knows typer, rich and argv.

It starts here, as a signal may come while the rest is imported, which takes most of the time of a short command.
"""

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM are codes 130 and 143, and documents with --json, from the beginning."""
    before = signal.signal(signal.SIGTERM, lambda number, _: _end("ended by SIGTERM", 128 + number))
    try:
        from deeplabctl.cli.app import main as run

        signal.signal(signal.SIGTERM, before)
        run()
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(message: str, code: int) -> None:
    if "--json" in sys.argv:
        sys.stdout.write(f'{{"error": {{"message": "{message}", "exit_code": {code}}}}}\n')
    raise SystemExit(code)
