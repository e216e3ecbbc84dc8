"""A head restricted to some of its classes, or to groups of them, whose probabilities are added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import xxhash
from torch import nn


@dataclass(frozen=True)
class Restriction:
    """Which of a head's C classes each of C' classes consists of.

    Attributes:
        members: of each of the C' classes, its numbers in the head; at least one, and none twice.
        num_classes: C.
    """

    members: tuple[tuple[int, ...], ...]
    num_classes: int

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over the members in their order."""
        text = ";".join(",".join(map(str, each)) for each in self.members)
        return xxhash.xxh3_64_hexdigest(text.encode())


class RestrictedNetwork(nn.Module):
    """A network whose logits [B, C'] have the softmax of the network's own, given that one of the members is right.

    The softmax over a set of classes is that of their logits alone, and the logit of a group is the logarithm of its
    members' summed exponentials. What comes behind, top-k and temperature included, takes them as any other logits.

    Args:
        network: maps images to logits [B, C].
        restriction: of these classes.
    """

    def __init__(self, network: nn.Module, restriction: Restriction) -> None:
        super().__init__()
        self.network = network
        self.order: torch.Tensor
        self.tables = 0
        # Groups of about one size are summed together: one table for all would be as wide as the largest of them.
        by_size: dict[int, list[int]] = {}
        for number, group in enumerate(restriction.members):
            by_size.setdefault((len(group) - 1).bit_length(), []).append(number)
        order: list[int] = []
        for numbers in by_size.values():
            width = max(len(restriction.members[each]) for each in numbers)
            order += numbers
            rows = [restriction.members[each] for each in numbers]
            table = [[*row, *[restriction.num_classes] * (width - len(row))] for row in rows]
            self.register_buffer(f"members_{self.tables}", torch.tensor(table), persistent=False)
            self.tables += 1
        self.register_buffer("order", torch.tensor(order).argsort(), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] to float32 logits [B, C']."""
        logits = self.network(images).float()
        # Places that a smaller group leaves empty get the last column, which adds nothing.
        extended = torch.cat([logits, logits.new_full((len(logits), 1), -torch.inf)], dim=1)
        tables = [getattr(self, f"members_{number}") for number in range(self.tables)]
        parts = [extended[:, table].logsumexp(dim=2) for table in tables]
        return torch.cat(parts, dim=1)[:, self.order]
