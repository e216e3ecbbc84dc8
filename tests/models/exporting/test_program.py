"""A program of torch.export runs with torch alone, for any number of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.exporting.networks import DEIT, deployed
from tests.models.networks import card
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.exporting.deployed import DeployedNetwork
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.program import save_program, traced

ALONE = """
import builtins, sys
real = builtins.__import__
def guarded(name, *rest, **more):
    assert not name.startswith(("timm", "tinyvit_kd")), name
    return real(name, *rest, **more)
builtins.__import__ = guarded
import torch
texts = {"input.txt": "", "mean.txt": ""}
images = torch.load(sys.argv[2])
program = torch.export.load(sys.argv[1], extra_files=texts).module()
with torch.no_grad():
    torch.save([program(images[:count]) for count in (1, 3, 8)], sys.argv[3])
print(texts["input.txt"], texts["mean.txt"])
"""


def test_it_runs_where_neither_timm_nor_this_package_is(tmp_path: Path) -> None:
    network = deployed(DEIT, 32)
    file, given, found = (tmp_path / name for name in ("tiny.pt2", "images.pt", "logits.pt"))
    description = Description(card=network.card, input_kind="uint8")
    assert save_program(network, description, file) < 1e-5
    images = network.sample_images(8, seed=5)
    torch.save(images, given)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, file, given, found], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    with torch.no_grad():
        for count, logits in zip((1, 3, 8), torch.load(found), strict=True):
            torch.testing.assert_close(logits, network(images[:count]), rtol=0, atol=1e-5)
    assert done.stdout.strip() == f"{description.as_texts()['input']} [0.4, 0.5, 0.6]"


class Chooses(nn.Module):
    """Does one thing or another by what is in the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))


class Counts(nn.Module):
    """Takes two images at a time, and nothing else."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(2, 3, -1).mean(dim=2)


@pytest.mark.parametrize("network", [Chooses(), Counts()], ids=["by content", "by number"])
def test_a_network_whose_operations_depend_on_its_images_is_refused_with_the_reason(network: nn.Module) -> None:
    with pytest.raises(ConfigError, match="cannot be exported for any number of images") as caught:
        traced(DeployedNetwork(network, card(3), "uint8").eval())
    assert caught.value.where == type(network).__name__
    assert "torch.export says: " in caught.value.found
