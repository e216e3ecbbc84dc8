"""Whether what was written answers as the network does; nothing that does not is left on the disk."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tinyvit_kd.errors import CheckpointError, said_by
from tinyvit_kd.models.exporting.deployed import DeployedNetwork

BOUND = 1e-4  # largest difference of two logits, or of the largest logit's size where that is above 1
_BATCHES = (1, 3)  # images at a time: neither is the number that the network was traced with


def require_agreement(
    deployed: DeployedNetwork, other: Callable[[torch.Tensor], torch.Tensor], what: str, bound: float = BOUND
) -> float:
    """Compare logits on noise, in batches of several sizes.

    Args:
        other: images to logits, by what was written.
        what: what was written, for messages.
        bound: largest difference, as a fraction of the largest logit but of 1 at least.

    Returns:
        the largest difference of two logits.

    Raises:
        CheckpointError: the answers differ by more, are not finite, or there is none.
    """
    largest = 0.0
    for seed, count in enumerate(_BATCHES):
        images = deployed.sample_images(count, seed)
        with torch.inference_mode():
            expected = deployed(images)
        try:
            with torch.no_grad():
                found = other(images)
        except Exception as error:  # whatever a runtime raises, the file is of no use
            raise _refused(what, f"of {count} images it makes no logits: {said_by(error)}") from error
        if found.shape != expected.shape:
            raise _refused(what, f"logits {list(found.shape)}, not {list(expected.shape)}")
        if not bool(expected.isfinite().all()):
            raise CheckpointError(
                "the network's answers are not finite, so that nothing can be compared with them",
                found="NaN or infinity among its logits of noise",
                fix="score the run with evaluate: its training has probably diverged",
            )
        difference = float((found - expected).abs().max())
        if not difference <= bound * max(1.0, float(expected.abs().max())):  # NaN is no agreement
            raise _refused(
                what, f"logits that differ by {difference:.2g}, of {float(expected.abs().max()):.3g} at most"
            )
        largest = max(largest, difference)
    return largest


def _refused(what: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{what} does not answer as the network does, and was not kept",
        found=found,
        fix="report this with the network's name and the versions of torch and onnxruntime; another format may do",
    )
