"""Batches of image files, each in the fixed view that a network is scored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.errors import BadImageError, ConfigError, reason_of
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.views.render import render_eval

UInt8 = npt.NDArray[np.uint8]


def read_view(path: str | Path, spec: EvalViewSpec, out: UInt8 | None = None) -> UInt8:
    """The view of an image file: uint8 [3, S, S].

    Args:
        out: the array to fill and return; a new one by default.

    Raises:
        ConfigError: the file cannot be read.
        BadImageError: the image cannot be decoded; the content of ``out`` is then undefined.
    """
    try:
        return render_eval(Path(path).read_bytes(), spec, out)
    except OSError as error:
        raise ConfigError("cannot read an image", where=str(path), found=reason_of(error)) from None
    except BadImageError as error:
        error.where = str(path)
        raise


class FileBatch(NamedTuple):
    """Views of files, in their order."""

    views: torch.Tensor  # uint8 [B, 3, S, S]; black where there is a problem
    problems: Sequence[str]  # [B]: why there is no view; empty where there is one


@dataclass
class FileBatches(BatchMaker[Sequence[Path], FileBatch]):
    """Batches of image files. A task is the paths of one batch."""

    spec: EvalViewSpec
    batch_size: int  # files per task, at most

    @property
    def layout(self) -> Layout:
        """Views alone."""
        return Layout(views=((self.batch_size, 3, self.spec.size, self.spec.size), np.uint8))

    def fill(self, task: Sequence[Path], arrays: Arrays) -> list[str]:
        """Make the batch of some files; returns the problem of each, empty where there is none."""
        problems = []
        for path, view in zip(task, arrays["views"], strict=False):  # the last batch may be shorter
            doing(f"reading {path}")
            try:
                read_view(path, self.spec, out=view)
                problems.append("")
            except BadImageError as error:
                view[:] = 0
                problems.append(error.what)
            except ConfigError as error:
                view[:] = 0
                problems.append(f"{error.what}: {error.found}")
        return problems

    def join(self, tensors: Tensors, extra: list[str]) -> FileBatch:
        """The batch on the device, without the rows that fewer files leave unused."""
        return FileBatch(tensors["views"][: len(extra)], extra)
