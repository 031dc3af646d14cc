"""Run the command line as ``python -m deeplabctl``."""

from deeplabctl.cli import main

if __name__ == "__main__":
    main()
