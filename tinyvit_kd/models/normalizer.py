"""From uint8 views to a network's input, on its device."""

from __future__ import annotations

import torch
from torch.nn import functional as F


class Normalizer:
    """Turns views into a network's input.

    Args:
        mean: per channel, in 0..1.
        std: per channel, in 0..1.
        device: where the views are and the input shall be.
        channels_last: memory format of the result on CUDA, where convolutions are faster with it.
        image_size: side of the input; views of another size are resized (bicubic, antialiased).
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
        channels_last: bool = False,
        image_size: int | None = None,
    ) -> None:
        self.scale = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float().view(3, 1, 1).to(device)
        shift = torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self.shift = shift.float().view(3, 1, 1).to(device)
        self.format = torch.channels_last if channels_last and device.type == "cuda" else torch.contiguous_format
        self.image_size = image_size

    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, S, S] to float32 [B, 3, image_size, image_size]."""
        images = views.to(torch.float32, memory_format=self.format)
        size = self.image_size
        if size is not None and images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp_(0, 255)
        return images * self.scale - self.shift
