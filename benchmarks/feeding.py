"""What benchmarks feed to networks: views and batches without image work."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from benchmarks.photos import load
from tinyvit_kd.batches.dump_batches import DumpBatches
from tinyvit_kd.batches.fresh_batches import MixedIn
from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.batches.sample_views import Uint8
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.models.teacher import topk_probs
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views.render import render_views


def resident_views(options: argparse.Namespace, count: int) -> torch.Tensor:
    """Views of photos, or bytes at random: uint8 [count, 3, S, S]."""
    if options.views == "synthetic":
        shape = count, 3, options.size, options.size
        return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    photos, spec = load(options.photos), ViewSpec(size=options.size)
    views = [render_views(photos[number % len(photos)], [number], spec)[0] for number in range(count)]
    return torch.from_numpy(np.stack(views))


def resident_batch(options: argparse.Namespace, count: int, device: torch.device) -> Batch:
    """Views and targets on a device as stage two gets them, of a teacher with a spread."""
    logits = 3 * torch.randn((count, options.classes), generator=torch.Generator().manual_seed(0))
    indices, probs, residual = topk_probs(logits, options.topk)
    tensors = {"views": resident_views(options, count), "weights": torch.ones(count)}
    tensors |= {"indices": indices, "probs": probs, "residual": residual}
    return Batch.of({name: tensor.to(device) for name, tensor in tensors.items()})


def random_labels(classes: int, count: int, device: torch.device) -> torch.Tensor:
    """Labels of as many views on a device: int64 [B]."""
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(1)).to(device)


@dataclass
class StillBatches(DumpBatches):
    """Stage one's batches, with the same bytes at random in place of every sample's views."""

    @cached_property
    def still(self) -> Uint8:
        """Noise: uint8 [3, S, S]."""
        size = self.samples.spec.size
        return np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8)

    def render(
        self, _shard: int, index: int, seeds: dict[int, int], _pairing_view: int, out: Uint8
    ) -> MixedIn | BadImageError:
        """No rendering."""
        out[:] = self.still
        return MixedIn(index, [1.0] * len(seeds))


class SyntheticBatches(BatchMaker[int, Batch]):
    """Batches of stage two that cost next to nothing: random views, made once a buffer, and random records."""

    def __init__(self, batch: int, size: int, topk: int, classes: int) -> None:
        self.shape, self.classes = (batch, size, topk), classes

    @property
    def layout(self) -> Layout:
        """As stage two's."""
        return batch_layout(*self.shape)

    def fill(self, task: int, arrays: Arrays) -> int:
        """Records of their own for every task."""
        batch, _, topk = self.shape
        draw = np.random.default_rng(task)
        if not arrays["weights"].any():  # a buffer's first use
            arrays["views"][:] = draw.integers(0, 256, arrays["views"].shape, dtype=np.uint8)
        masses = draw.random((batch, topk + 1), dtype=np.float32)
        masses /= masses.sum(axis=1, keepdims=True)
        arrays["probs"][:], arrays["residual"][:], arrays["weights"][:] = masses[:, 1:], masses[:, 0], 1
        arrays["indices"][:] = np.cumsum(draw.integers(1, self.classes // topk, (batch, topk)), axis=1) - 1
        return 0

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, told)
