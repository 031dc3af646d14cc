"""Command line in, text out: options into calls, results into lines. The only room that knows typer, rich and argv.

It starts here, as a signal may come while the rest is imported, which takes most of the time of a short command.
"""

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM are codes 130 and 143, and documents with --json, from the beginning."""
    code, message = 130, "interrupted"

    def end(number: int, frame: object) -> None:
        nonlocal code, message
        code, message = 128 + number, "ended by SIGTERM"
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        from deeplabctl.cli.app import main as run

        signal.signal(signal.SIGTERM, before)
        run()
    except KeyboardInterrupt:
        if "--json" in sys.argv:
            sys.stdout.write(f'{{"error": {{"message": "{message}", "exit_code": {code}}}}}\n')
        raise SystemExit(code) from None
