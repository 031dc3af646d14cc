"""Segment pictures in a process of a Ray cluster."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabctl.errors import DataError
from deeplabctl.parallel import limit_cpus
from deeplabctl.prediction.job import segment_pictures
from deeplabctl.prediction.outputs.picture_files import Failure, PictureResult
from deeplabctl.prediction.outputs.plan import PictureJob
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.weights.fitting import Network

Result = PictureResult | Failure


@dataclass(frozen=True)
class Share:
    """Hold what is the same for all actors: settings whose engine is not "auto", CPUs of each, and shared places.

    ``folder`` is where relative paths begin; ``places`` are files and folders that each machine must have.
    """

    settings: PredictionSettings
    batch_size: int | None
    with_segments: bool
    cpus: int
    folder: Path | None
    places: tuple[Path, ...]


class Worker:
    """Segment pictures in a process of Ray's.

    The network comes with each task, from Ray's object store on the same machine; it is loaded once.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._segmenter: Segmenter | None = None

    def _start(self, network: Network) -> Segmenter:
        if self._segmenter is None:
            share = self._share
            for place in share.places:
                if not place.exists():
                    raise DataError(
                        f"machine {platform.node()}: expected {place}, as where the run was started, got no such file "
                        "or folder; pictures and results must be in folders that all machines share"
                    )
            if share.folder is not None:
                os.chdir(share.folder)
            limit_cpus(share.cpus)
            segmenter = Segmenter.from_network(network, share.settings)
            segmenter.largest_batch(share.batch_size)
            segmenter.prepare()
            self._segmenter = segmenter
        return self._segmenter

    def check(self, network: Network) -> None:
        """Load the network; raises DeepLabError where this machine lacks something."""
        self._start(network)

    def segment(self, network: Network, jobs: Sequence[PictureJob]) -> tuple[str | None, list[Result]]:
        """Return what `segment_pictures` yields, and the name of this process if it replaces one that died."""
        import ray

        segmenter, share, context = self._start(network), self._share, ray.get_runtime_context()
        results: list[Result] = []
        for result in segment_pictures(segmenter, jobs, with_segments=share.with_segments, batch_size=share.batch_size):
            results.append(result)
            if context.is_canceled():
                break
        is_new = context.was_current_actor_reconstructed
        return f"{platform.node()}, process {os.getpid()}" if is_new else None, results
