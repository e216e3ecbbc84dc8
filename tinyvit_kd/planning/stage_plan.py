"""The numbers of one stage's plan."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.planning.networks import NetworkCost
from tinyvit_kd.planning.store_sizes import StoreSize


@dataclass(frozen=True)
class Memory:
    """Memory of one process, bytes; on a GPU the first five are the GPU's, on the CPU all are the machine's.

    Attributes:
        activations: an estimate: what autograd keeps, without fused attention, in the precision of the run.
        batches: buffers that loading processes fill.
        blocks: cache of a store's blocks.
        workers: what loading processes take besides.
        program: Python and its libraries, without those of a GPU.
    """

    weights: int = 0
    gradients: int = 0
    moments: int = 0
    average: int = 0
    activations: int = 0
    batches: int = 0
    blocks: int = 0
    workers: int = 0
    program: int = 0

    @property
    def of_network(self) -> int:
        """Of the network: on a GPU, what the GPU's memory has to hold."""
        return self.weights + self.gradients + self.moments + self.average + self.activations

    @property
    def of_loading(self) -> int:
        """Of everything else: memory of the machine."""
        return self.batches + self.blocks + self.workers + self.program


@dataclass(frozen=True)
class Work:
    """How much there is to do of what takes time.

    Attributes:
        views: decoded and augmented.
        teacher: forward passes of the teacher.
        student: training steps' views; a forward pass alone counts as a third.
        write: records.
        read: bytes, of images and of a store's blocks; None where the size of images is not known.
    """

    views: float = 0
    teacher: float = 0
    student: float = 0
    write: float = 0
    read: float | None = 0

    def of(self, part: str) -> float | None:
        """The amount of one part, by the part's name."""
        amount: float | None = getattr(self, part)
        return amount


@dataclass(frozen=True)
class StagePlan:
    """What one recipe will take; None stands for what is not known.

    Attributes:
        recipe: its path, as it was given.
        size: side of the views, pixels.
        images: shards of the images.
        samples: of these shards.
        epochs: passes over them.
        steps: optimiser steps.
        views: made, all epochs together; those of evaluations are ``scored``.
        views_per_decode: of an image.
        decodes: of images, those of evaluations included.
        teacher_passes, student_passes, backward_passes: views that a network sees forward, or backward.
        multiply_adds: of all passes; a backward pass counts as two forward passes.
        image_bytes: read, of images.
        more_images_read: whether there are more, in evaluations, whose size is not known.
        store_bytes: read, of a store's records.
        written: bytes.
        store: that the stage makes, complete.
        checkpoint_bytes: of one checkpoint; ``checkpoints`` are there at a time at most.
        workers: loading processes per process.
        processes: of the run.
    """

    recipe: str
    stage: str
    size: int
    processes: int
    workers: int
    images: int | None = None
    samples: int | None = None
    epochs: int | None = None
    steps: int | None = None
    views: int | None = None
    views_per_decode: int = 1
    mixes: bool = False
    scored: int = 0
    decodes: int | None = None
    teacher_passes: int = 0
    student_passes: int = 0
    backward_passes: int = 0
    network: NetworkCost | None = None
    multiply_adds: float | None = None
    image_bytes: float | None = None
    more_images_read: bool = False
    store_bytes: float | None = None
    written: float | None = None
    store: StoreSize | None = None
    checkpoint_bytes: int | None = None
    checkpoints: int = 0
    memory: Memory | None = None
    work: Work | None = None
    lanes: int | None = None
