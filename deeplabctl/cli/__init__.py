"""Command line in, text out: options into calls, results into lines. The only room that knows typer, rich and argv.

It starts here, as Ctrl-C may come while the rest is imported, which takes most of the time of a short command.
"""

import sys


def main() -> None:
    """Run the command line; Ctrl-C is exit code 130, and a document with --json, also before a command begins."""
    try:
        from deeplabctl.cli.app import main as run

        run()
    except KeyboardInterrupt:
        if "--json" in sys.argv:
            sys.stdout.write('{"error": {"message": "interrupted", "exit_code": 130}}\n')
        raise SystemExit(130) from None
