"""``deeplabctl serve``: a page and an API that segment images."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deeplabctl.cli.console import Console, usage_errors
from deeplabctl.cli.options import (
    CRF,
    CrfAdaptiveOption,
    CrfOptions,
    CrfParamsOption,
    DefaultWeightsOption,
    EngineOption,
    FlipOption,
    PadOption,
    PredictionOptions,
    ScalesOption,
    section,
)
from deeplabctl.errors import DeepLabError, RecipeError
from deeplabctl.run_layout import BEST, LAST
from deeplabctl.serve import Limits

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable

    from fastapi import FastAPI

    from deeplabctl.prediction.settings import PredictionSettings
    from deeplabctl.reporting import Event, Reporter
    from deeplabctl.serve.access import Hosts, Key
    from deeplabctl.serve.service import Service
    from deeplabctl.weights.fitting import ExportedNetwork, Network

EXAMPLES = """
Examples
  # the newest run's weights on http://127.0.0.1:8000
  deeplabctl serve

  # another file, for all machines of the network
  deeplabctl serve --weights best.keras --host 0.0.0.0 --port 8080
"""
ADDRESS = section("Address")
_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn")
LIMITS = section("Limits")
_PHOTO_PIXELS = 25_000_000  # at most, for networks that work on photos at a size of their own
_OWN_PATHS = ("api", "examples", "healthz", "metrics", "openapi.json", "page")


def _checked_crf(value: str | None) -> str | None:
    if value not in (None, "", "on", "off"):
        raise typer.BadParameter(f"expected on, off or nothing after it, got {value!r}")
    return value


def _checked_root(value: str) -> str:
    root = value.rstrip("/")
    if not re.fullmatch(r"(/(?!\.)[\w.~-]+)*", root, re.ASCII):
        raise typer.BadParameter(f"expected a path such as /photos, got {value!r}")
    if root.partition("/")[2].partition("/")[0] in _OWN_PATHS:
        raise typer.BadParameter(f"{root} is a path of the service itself; choose another")
    return root


@dataclass(frozen=True)
class _CrfOptions:
    """Say whether requests get the dense CRF, and how."""

    crf: Annotated[
        str | None,
        CRF(
            "--crf [on|off]",
            "Sharpen results unless a request says otherwise; off: never. Default: only on request.",
            callback=_checked_crf,
        ),
    ] = None
    crf_adaptive: CrfAdaptiveOption = False
    crf_params: CrfParamsOption = None


def serve(
    *,
    weights: DefaultWeightsOption = None,
    host: Annotated[str, ADDRESS("--host ADDRESS", "Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, ADDRESS("--port N", "Port to listen on; 0 chooses a free one.", min=0, max=65535)] = 8000,
    allow_host: Annotated[
        list[str],
        ADDRESS(
            "--allow-host NAME",
            "Another host name that requests may use for the service; may be repeated, * matches any characters.",
        ),
    ] = [],  # noqa: B006 - typer only reads it
    workers: Annotated[
        int, ADDRESS("--workers N", "Processes on the port, each with its network and share of CPUs.", min=1)
    ] = 1,
    root_path: Annotated[
        str,
        ADDRESS("--root-path PATH", "URL path of the service behind a proxy, such as /photos.", callback=_checked_root),
    ] = "",
    pad: PadOption = "tight",
    scales: ScalesOption = None,
    flip: FlipOption = None,
    engine: EngineOption = "auto",
    crf: _CrfOptions,
    max_pixels: Annotated[
        int | None,
        LIMITS(
            "--max-pixels N",
            f"Maximum pixels of an image. Default: {_PHOTO_PIXELS:,} for networks that work on photos at a size of "
            f"their own, else {Limits.max_pixels:,}.",
            min=1,
        ),
    ] = None,
    max_body: Annotated[
        float, LIMITS("--max-body MIB", "Maximum size of a request.", min=0.001, max=1e6)
    ] = Limits.max_body >> 20,
    queue: Annotated[
        int, LIMITS("--queue N", "Maximum of requests that upload, wait or run at once.", min=1)
    ] = Limits.queue,
    timeout: Annotated[
        float,
        LIMITS(
            "--timeout SECONDS",
            "Longest time for a request to arrive, to wait for its turn, and for its answer to be read.",
            min=1,
            max=86_400,
        ),
    ] = Limits.timeout,
    connections: Annotated[
        int, LIMITS("--connections N", "Maximum of simultaneous connections.", min=1)
    ] = Limits.connections,
    console: Console,
) -> None:
    """Serve a page and an API that segment images.

    With $DEEPLABCTL_API_KEY, only requests that bring this key are answered, and the page asks for it.

    Ends with exit code 0 at Ctrl-C or SIGTERM, after running requests are completed; a second one ends it at once.
    """
    from deeplabctl.cli.prediction_options import find_network, read_settings
    from deeplabctl.prediction.settings import resolve
    from deeplabctl.reporting import Note
    from deeplabctl.weights import locating

    is_off = crf.crf == "off"
    if is_off and (crf.crf_adaptive or crf.crf_params):
        raise typer.BadParameter("off, but its parameters are set", param_hint="--crf")
    options = CrfOptions(not is_off, crf.crf_adaptive, crf.crf_params)
    request = read_settings(PredictionOptions(pad, scales, flip, engine), options)
    if is_off:
        request["crf"] = False
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:  # nothing of them is loaded to find out
        raise DeepLabError(f"serve needs the package {missing[0]}: pip install 'deeplabctl[serve]'")
    from deeplabctl.serve import server
    from deeplabctl.serve.access import Hosts, Key
    from deeplabctl.serve.workers import Workers

    server.allow_files(connections)
    with server.bind(host, port) as bound:
        with usage_errors("--allow-host"):
            hosts = Hosts([host, *allow_host], any_address=server.is_public(bound))
        with usage_errors("$DEEPLABCTL_API_KEY"):
            secret = os.environ.get("DEEPLABCTL_API_KEY")
            if secret == "":  # a command that was to make one has failed, say
                raise RecipeError("expected a key, got an empty one; unset the variable to serve without a key")
            key = Key(secret or "")
        with console.reporter() as report:
            path, network = find_network(weights, report)
            settings = resolve(request, network.info)
            max_pixels = max_pixels or (_PHOTO_PIXELS if settings.image_size else Limits.max_pixels)
            limits = Limits(max_pixels, int(max_body * (1 << 20)), queue, timeout, connections)
            sha256 = locating.open_weights(path).sha256 if workers > 1 else ""
            job = _Job(
                path, sha256, settings, limits, crf != _CrfOptions() and not is_off, hosts, root_path, key, console
            )
            if workers == 1:
                service = job.load(network, report)
            if server.is_public(bound):
                lacks = "the key and images travel without TLS" if secret else "there is neither a login nor TLS"
                report(
                    Note(f"other machines can reach this address, {server.public_url_of(bound)}; {lacks}", warning=True)
                )
        url = server.url_of(bound)
        if workers == 1:
            server.run(job.application(service), bound, limits, lambda: _announce(console, url, _facts(service)))
            return
        with console.reporter() as report:
            Workers(workers, bound, job, _while_read(report)).run(lambda facts: _announce(console, url, facts, workers))


@dataclass(frozen=True)
class _Job:
    """Hold what a process that answers requests needs; it is handed over to those that the command starts."""

    path: Path
    sha256: str  # of the weights, with several workers
    settings: PredictionSettings
    limits: Limits
    uses_crf: bool
    hosts: Hosts
    root_path: str
    key: Key
    console: Console

    def __call__(
        self, number: int, bound: socket.socket, ready: Callable[[dict[str, Any]], None], ended: threading.Event
    ) -> None:
        """Load the network in a worker's process, and answer requests; see `Workers`."""
        from deeplabctl.serve import server
        from deeplabctl.weights.fitting import open_network
        from deeplabctl.weights.locating import open_weights

        file = open_weights(self.path)
        if file.sha256 != self.sha256:
            raise DeepLabError(f"weights {self.path}: they have changed since the command began; start it again")
        with (self.console if number == 0 else Console(quiet=True)).reporter() as report:
            service = self.load(open_network(file), report, f"{number + 1}")
        server.run(self.application(service), bound, self.limits, lambda: ready(_facts(service)), ended)

    def load(self, network: Network | ExportedNetwork, report: Reporter, worker: str = "") -> Service:
        """Load the network once, with the CRF for who asks for it, and run both, so that no request waits for that."""
        from deeplabctl.cli.prediction_options import load_segmenter
        from deeplabctl.serve.examples import find_examples
        from deeplabctl.serve.service import Service

        segmenter = load_segmenter(network, self.settings, report)
        examples = find_examples(network.info, self.limits, self.settings.pad)
        name = self.path.resolve().parent.name if self.path.name in (BEST, LAST) else self.path.name
        service = Service(segmenter, self.limits, name=name, uses_crf=self.uses_crf, examples=examples, worker=worker)
        service.worker.warm_up()
        return service

    def application(self, service: Service) -> FastAPI:
        """Return the application of the service."""
        from deeplabctl.serve.application import build_application

        return build_application(service, self.hosts, self.root_path, self.key)


def _while_read(report: Reporter) -> Reporter:
    """Report as long as somebody reads stderr: whoever does may end before the service."""

    def to_reader(event: Event) -> None:
        try:
            report(event)
        except OSError:
            with Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), 2)

    return to_reader


def _facts(service: Service) -> dict[str, Any]:
    from deeplabctl.serve.answers import describe_model

    return describe_model(service).model_dump()


def _announce(console: Console, url: str, facts: dict[str, Any], workers: int = 1) -> None:
    console.say(f"serving {url}{f' with {workers} workers' if workers > 1 else ''} (Ctrl-C ends it)")
    console.document({"url": url, **facts})
