"""Segment the images of a plan on a Ray cluster: actors with a network each, which Ray places and restarts."""

from __future__ import annotations

import logging
import os
import platform
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from deeplabctl.errors import DataError, DeepLabError, OutputError, RecipeError
from deeplabctl.files import locked_folder, remove_unfinished, temporary_name
from deeplabctl.parallel import available_cpus, limit_cpus
from deeplabctl.prediction.engines import engine_class, with_engine
from deeplabctl.prediction.outputs.output import Job, Output, Written
from deeplabctl.prediction.outputs.plan import Plan
from deeplabctl.prediction.run import segment_images
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.reporting import Note, Reporter, captured_stderr, counted
from deeplabctl.weights.fitting import ExportedNetwork, Network

_CHUNK = 8  # images of a task at most: an actor reads ahead, and writes, within a task
_QUEUED = 3  # tasks of an actor that run or wait: it goes on while a slow one's result is awaited in order
_RETRIES = 2  # of a task whose process died
_OBJECT_STORE = 1 << 30  # bytes of shared memory, taken as they are used; it holds the weights only
_PATIENCE = 30.0  # seconds until a note says that actors are waited for
_CONNECT_SECONDS = 10.0
_STOP_SECONDS = 15.0  # that an interrupted run leaves the actors to end the images that they have begun


@dataclass(frozen=True)
class RayRequest:
    """Say where to run: "local" starts Ray here; "auto", "HOST:PORT" and "ray://HOST:PORT" join a cluster.

    Without ``workers`` there is one for each GPU if TensorFlow computes, else one for each machine.
    """

    address: str
    workers: int | None = None


@contextmanager
def on_ray(
    network: Network | ExportedNetwork,
    settings: PredictionSettings,
    plan: Plan,
    request: RayRequest,
    report: Reporter,
    *,
    batch_size: int | None = None,
) -> Iterator[tuple[PredictionSettings, Iterator[Written]]]:
    """Join a cluster, or start one, for the block; yields the settings with their engine, and the results of the plan.

    The results are those of `segment_images`, in the order of ``plan.todo``; a few tasks are in flight at any time.
    At the end the actors are gone, and nothing half-written is left. Raises DeepLabError for a cluster that cannot be
    joined, and for a machine of it that cannot do its work.
    """
    report(Note("starting Ray" if request.address == "local" else f"joining Ray at {request.address}"))
    with _shared_places(network, plan) as (folder, places), _joined(request.address):
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = any(node.get("GPU") for node in nodes)
        settings = with_engine(settings, network.info, "tensorflow" if gpus else None)
        uses_gpu = engine_class(settings, network.info).uses_gpu
        count, resources = actors_for(nodes, request.workers, by_gpu=gpus and uses_gpu)
        cpus = resources["num_cpus"]
        remote = ray.remote(Worker).options(
            **resources, max_restarts=-1, max_task_retries=_RETRIES, scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"TF_NUM_INTRAOP_THREADS": str(cpus), "TF_CPP_MIN_LOG_LEVEL": "2",
                                      "TF_CUDNN_USE_AUTOTUNE": "0"}},
        )  # fmt: skip
        weights, share = ray.put(network), Share(settings, batch_size, plan.outputs, cpus, folder, places)
        actors = [remote.remote(share) for _ in range(count)]
        shares = [counted(number, name.removeprefix("num_").upper()[:-1]) for name, number in resources.items()]
        report(Note(f"Ray workers: {count}, each with {' and '.join(shares)}"))
        _wait([actor.check.remote(weights) for actor in actors], report)
        running: deque[tuple[list[Job], Any]] = deque()
        try:
            yield settings, _results(actors, weights, plan.todo, running, report)
        finally:
            _stop([reference for _, reference in running])


@contextmanager
def _shared_places(network: Network | ExportedNetwork, plan: Plan) -> Iterator[tuple[Path | None, tuple[Path, ...]]]:
    """Yield the folder where relative paths begin, if there are any, and the places that all machines must have.

    One is a file among the results, which is there for the block: it shows that the folder is shared, and not another
    one of its name. At the end it is removed, with what processes that died have left where no other run writes.
    """
    files = [path for job in plan.todo for path in job.files.values()]
    weights = [network.path] if isinstance(network, ExportedNetwork) else []
    inputs = [job.source for job in plan.todo] + weights
    places = [*dict.fromkeys(path.absolute().parent for path in inputs)]
    places += [path.absolute() for path in weights]
    try:
        with ExitStack() as held:
            if files:
                mark = temporary_name(files[0].absolute())
                try:
                    mark.parent.mkdir(parents=True, exist_ok=True)
                    held.enter_context(locked_folder(mark.parent))
                    mark.touch()
                except OSError as error:
                    raise OutputError(f"cannot write {mark.parent}: {error.strerror}; choose another `out`") from None
                places.append(mark)
            is_relative = any(not path.is_absolute() for path in (*inputs, *files))
            yield (Path.cwd() if is_relative else None), tuple(places)
    finally:
        remove_unfinished(files)


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Start Ray, or join it, and leave it at the end; its messages stay in its own logs."""
    import ray

    options: dict[str, Any] = {}
    if address == "local":
        options = {"num_cpus": available_cpus(), "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    else:
        _check_reachable(address)
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with captured_stderr() as captured:
            try:
                ray.init(address, **options, log_to_driver=False, logging_level=logging.ERROR)
            except (ImportError, OSError, RuntimeError, ValueError) as error:
                said = " ".join(f"{error} {captured()[-500:]}".split())
                where = "start Ray here" if address == "local" else f"join Ray at {address}"
                raise DeepLabError(f"cannot {where}: {said}") from None
        if in_main:
            signal.signal(signal.SIGTERM, before)  # Ray sets one of its own
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise DeepLabError where nobody listens: Ray itself would try again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # "auto"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise DeepLabError(f"cannot join Ray at {address}: {error}; check the address") from None


def actors_for(nodes: Sequence[dict[str, float]], workers: int | None, *, by_gpu: bool) -> tuple[int, dict[str, int]]:
    """Return how many actors there are, and what each takes, of machines with these resources."""
    if by_gpu:
        nodes = [node for node in nodes if node.get("GPU", 0) >= 1]
        each = max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in nodes))
        have, one = int(sum(node["GPU"] for node in nodes)), {"num_cpus": each, "num_gpus": 1}
        count = workers or have
    else:
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        have = sum(cpus)
        each = min(cpus, default=1)
        if workers is not None:
            each = max((size for size in range(1, max(cpus, default=1) + 1) if _fit(cpus, size) >= workers), default=1)
        one, count = {"num_cpus": each}, workers or _fit(cpus, each)
    if not have:
        raise RecipeError("the cluster has no CPUs: expected at least one")
    if count > have:
        kind = "GPUs" if by_gpu else "CPUs"
        raise RecipeError(f"`ray_workers`: expected at most {have}, the {kind} of the cluster, got {count}")
    return count, one


def _fit(cpus: Sequence[int], size: int) -> int:
    return sum(each // size for each in cpus)


def _wait(checks: list[Any], report: Reporter) -> None:
    """Wait until all actors have loaded their networks; raises the error of one that cannot."""
    import ray

    ready, waiting = ray.wait(checks, num_returns=len(checks), timeout=_PATIENCE)
    if waiting:
        report(Note(f"waiting for {len(waiting)} of {len(checks)} Ray workers, loading or waiting for free CPUs"))
    with _own_errors():
        ray.get([*ready, *waiting])


def _results(
    actors: Sequence[Any], weights: Any, jobs: Sequence[Job], running: deque[tuple[list[Job], Any]], report: Reporter
) -> Iterator[Written]:
    """Yield results in order; ``running`` takes the tasks in flight, at most a few for each actor."""
    import ray
    from ray.util import ActorPool

    pool = ActorPool([*actors] * _QUEUED)
    size = max(1, min(_CHUNK, len(jobs) // (4 * len(actors))))
    replaced = set()

    def start(actor: Any, chunk: list[Job]) -> Any:
        running.append((chunk, actor.segment.remote(weights, chunk)))
        return running[-1][1]

    def take() -> list[Written]:
        if not running:
            raise DeepLabError("Ray has no workers left for this run; see its logs, and continue with `skip_existing`")
        with _own_errors():
            try:
                name, results = pool.get_next()
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                name, results = None, _failures(running[0][0], error)
        running.popleft()
        if name is not None and name not in replaced:
            replaced.add(name)
            report(Note(f"a Ray worker died and was replaced ({name})"))
        return cast(list[Written], results)

    for begin in range(0, len(jobs), size):
        while not pool.has_free():
            yield from take()
        pool.submit(start, [*jobs[begin : begin + size]])
    while running:
        yield from take()


def _failures(jobs: Sequence[Job], error: Exception) -> list[Written]:
    """Return a failure for each image of a task that ended with its process, as often as it was tried."""
    beside = f", with {len(jobs) - 1} others" if len(jobs) > 1 else ""
    why = f"the Ray workers that segmented it{beside}, died ({type(error).__name__}); see Ray's logs"
    return [Written(job, error=f"image {job.source}: {why}, and continue with `skip_existing`") for job in jobs]


def _stop(references: list[Any]) -> None:
    """End the tasks that are in flight after the image that each computes."""
    import ray

    for reference in references:
        ray.cancel(reference)
    if references:
        ray.wait(references, num_returns=len(references), timeout=_STOP_SECONDS)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise the project's own errors that end a task as they are."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, DeepLabError):
            raise error.cause from None
        raise


@dataclass(frozen=True)
class Share:
    """Hold what is the same for all actors: settings whose engine is not "auto", CPUs of each, and shared places.

    ``folder`` is where relative paths begin; ``places`` are files and folders that each machine must have.
    """

    settings: PredictionSettings
    batch_size: int | None
    outputs: tuple[Output, ...]
    cpus: int
    folder: Path | None
    places: tuple[Path, ...]


class Worker:
    """Segment images in a process of Ray's.

    The network comes with each task, from Ray's object store on the same machine; it is loaded once.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._segmenter: Segmenter | None = None

    def _start(self, network: Network | ExportedNetwork) -> Segmenter:
        if self._segmenter is None:
            share = self._share
            for place in share.places:
                if not place.exists():
                    raise DataError(
                        f"machine {platform.node()}: expected {place}, as on the machine that started the run, got no "
                        "such file or folder; images and results must be in folders that all machines share"
                    )
            if share.folder is not None:
                os.chdir(share.folder)
            limit_cpus(share.cpus)
            segmenter = Segmenter.from_network(network, share.settings)
            segmenter.largest_batch(share.batch_size)
            segmenter.prepare()
            self._segmenter = segmenter
        return self._segmenter

    def check(self, network: Network | ExportedNetwork) -> None:
        """Load the network; raises DeepLabError where this machine lacks something."""
        self._start(network)

    def segment(self, network: Network | ExportedNetwork, jobs: Sequence[Job]) -> tuple[str | None, list[Written]]:
        """Return what `segment_images` yields, and the name of this process if it replaces one that died."""
        import ray

        segmenter, share, context = self._start(network), self._share, ray.get_runtime_context()
        results: list[Written] = []
        for result in segment_images(segmenter, jobs, share.outputs, batch_size=share.batch_size):
            results.append(result)
            if context.is_canceled():
                break
        is_new = context.was_current_actor_reconstructed
        return f"{platform.node()}, process {os.getpid()}" if is_new else None, results
