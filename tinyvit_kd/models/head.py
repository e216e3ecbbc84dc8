"""Moving a classification head from one class list to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

ClassMap = npt.NDArray[np.int64]  # [target classes]: row of the source head, -1 where it has none


def remap_rows(rows: torch.Tensor, class_map: ClassMap) -> torch.Tensor:
    """Rows of a head's weight [C, D] or bias [C] in the target's order.

    A class that the source lacks takes the mean of the rows that were found, as the official code does for the
    one ImageNet-1k class that fall11 lacks (TinyViT/utils.py, ``load_pretrained``). At least one must be found.
    """
    index = torch.from_numpy(class_map)
    assert bool((index >= 0).any()), "a map that finds no class has nothing to take rows or their mean from"
    found = rows[index[index >= 0]]
    extended = torch.cat([rows, found.mean(dim=0, keepdim=True)])
    return extended[index]  # -1 is the last row, the mean


def select_columns(logits: torch.Tensor, class_map: ClassMap) -> torch.Tensor:
    """Logits [B, source classes] to [B, target classes]; a constant zero where the source lacks a class."""
    index = torch.from_numpy(class_map).to(logits.device)
    return torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)[:, index]
