"""Start the command line: Ctrl-C may come while it is imported, which takes most of the time of a short command."""

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
