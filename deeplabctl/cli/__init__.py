"""Turn the command line into calls and results into text: the only place that knows typer, rich and the environment."""
