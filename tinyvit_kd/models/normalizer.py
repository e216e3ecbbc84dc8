"""From uint8 views to a network's input, on its device."""

from __future__ import annotations

import torch


class Normalizer:
    """Normalises views by mean and standard deviation.

    Args:
        mean: per channel, in 0..1.
        std: per channel, in 0..1.
        device: the device of the views and of the result.
        channels_last: memory format of the result on CUDA, where it makes convolutions faster.
    """

    def __init__(
        self,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        self.scale = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float().view(3, 1, 1).to(device)
        shift = torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self.shift = shift.float().view(3, 1, 1).to(device)
        use_channels_last = channels_last and device.type == "cuda"
        self.memory_format = torch.channels_last if use_channels_last else torch.contiguous_format

    def __call__(self, views: torch.Tensor) -> torch.Tensor:
        """Views [B, 3, S, S] with levels 0..255, uint8 or float32, to float32 [B, 3, S, S] in memory of its own."""
        if torch.compiler.is_compiling():
            # torch 2.11 cuts compiled code where something is written to a given output in channels-last (2.14 does
            # not). A compiler makes a single pass of this by itself.
            return (views * self.scale - self.shift).contiguous(memory_format=self.memory_format)
        images = torch.empty(views.shape, device=views.device, memory_format=self.memory_format)
        # Bytes are converted, and laid out anew, by the multiplication itself: two passes, not three.
        return torch.mul(views, self.scale, out=images).sub_(self.shift)
