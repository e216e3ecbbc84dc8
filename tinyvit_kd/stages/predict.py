"""``predict``: a network's likeliest classes of image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.data.image_paths import find_images
from tinyvit_kd.runs.predictions import Prediction as Prediction
from tinyvit_kd.runs.predictions import open_classifier, predictions
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.views.selfcheck import check_renderers


def predict(
    source: ModelSource, paths: Sequence[Path], job: Job, *, top: int, batch_size: int, workers: int
) -> Iterator[Prediction]:
    """Ask a network about images, each in the view that it is scored in.

    Args:
        paths: image files, and folders of them.
        top: classes per image, at most.
        batch_size: images in one forward pass.
        workers: loading processes; 0: images are read in this one.

    Returns:
        an answer per image, in order, or why there is none. All that can be checked is, before the first.

    Raises:
        ConfigError: there is no such image or network, or a package is missing.
        CheckpointError: the network's file is missing or damaged, or answers with NaN.
        RendererError: this machine would render other views.
    """
    images = find_images(paths)
    check_renderers()
    classifier = open_classifier(source, job.device)
    return predictions(classifier, images, top, batch_size, workers, job.device)
