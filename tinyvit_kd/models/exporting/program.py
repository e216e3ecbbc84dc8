"""A network as a program of ``torch.export``: its operations and weights, without any code of timm's or ours."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import ready_to_answer
from tinyvit_kd.models.exporting.agreement import require_agreement
from tinyvit_kd.models.exporting.deployed import DeployedNetwork, attention_biases_computed
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.runtime.foreign_errors import first_line_of

_TRACED = 2  # images: torch takes 0 and 1 for numbers that never change
_MOST = 2**24  # images at a time; without a number torch 2.6 finds that 2^63 - 1 are too many


def traced(deployed: DeployedNetwork) -> ExportedProgram:
    """The network's operations for any number of images.

    Raises:
        ConfigError: torch cannot follow them, or they depend on the number of images.
    """
    ready_to_answer(deployed.network, torch.device("cpu"))
    images = deployed.sample_images(_TRACED, seed=0)
    with torch.no_grad(), attention_biases_computed(deployed.network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's about its own code
        try:
            # Not strictly, which would also follow Python's bytecode: hooks and timm's own switches are no part of it.
            return torch.export.export(
                deployed, (images,), dynamic_shapes=({0: Dim("batch", max=_MOST)},), strict=False
            )
        except Exception as error:
            raise ConfigError(
                "this network cannot be exported for any number of images",
                where=type(deployed.network).__name__,
                found=f"torch.export says: {first_line_of(error)}",
                fix="its code chooses what to do by what is in the images or by how many they are; export --format "
                "timm keeps weights and description alone, and needs none of this",
            ) from error


def save_program(deployed: DeployedNetwork, description: Description, path: Path) -> float:
    """Write a ``.pt2`` file that ``torch.export.load`` opens, and compare it with the network.

    Returns:
        the largest difference of two logits.

    Raises:
        ConfigError: the network cannot be exported.
        CheckpointError: the file answers otherwise than the network.
    """
    texts = description.as_texts()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(traced(deployed), path, extra_files={f"{name}.txt": text for name, text in texts.items()})
        program = torch.export.load(path).module()
    return require_agreement(deployed, lambda images: program(images), "the exported program")
