"""Command line in, text out: options into calls, results into lines. The only room that knows typer, rich and argv."""
