"""Teachers: any classifier with its own normalisation and input size, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.answer import answer, ready_to_answer
from tinyvit_kd.models.backbones import open_backbone
from tinyvit_kd.models.embedding_head import HeadedNetwork, HeadedTeacher, headed_teacher
from tinyvit_kd.models.input_size import resize_views
from tinyvit_kd.models.known_network import RECIPE, class_name_of
from tinyvit_kd.models.modelfile import NetworkFacts, hash_weights
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.open_network import open_source
from tinyvit_kd.models.restriction import RestrictedNetwork, Restriction
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device import autocast, move_to_device, resolve_precision
from tinyvit_kd.runtime.distributed import solo_job


@dataclass(frozen=True, kw_only=True)
class TeacherFacts(NetworkFacts):
    """What has to be known of a teacher, beside its weights.

    Attributes:
        name: the network's, for people.
        head: hash of the head file on the network's embedding; None if its own classifier answers.
        restriction: which of the network's classes those of the teacher are; None: they are the same.
    """

    name: str
    restriction: Restriction | None = None
    head: str | None = None


Restrict = Callable[[TeacherConfig, TeacherFacts], TeacherFacts]
"""Restricts a teacher to the classes that its recipe names; ``runs.restricted_classes`` knows class lists."""


class KnownTeacher(Protocol):
    """A teacher of which it is known what it is, whether or not its weights are here."""

    @property
    def facts(self) -> TeacherFacts:
        """What it is."""


class Teacher(nn.Module):
    """Maps views to logits.

    Attributes:
        facts: what it is; its input size decides whether views are resized (``resize_views``).
        precision: that it runs in: float32, bfloat16 or float16.
        weights_hash: 32 hexadecimal digits over all names and tensors of the network; a restriction has none.
        compiler: runs the network.
        said_by: who says what ``image_size``, ``mean``, ``std`` and ``class_list`` are, for people.
    """

    def __init__(
        self,
        network: nn.Module,
        facts: TeacherFacts,
        device: torch.device,
        precision: str,
        channels_last: bool = True,
        compiler: Compiler | None = None,
        said_by: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.said_by = said_by or {}
        self.facts, self.device = facts, device
        self.compiler = compiler or Compiler(solo_job())
        self.precision = resolve_precision(device, precision, trains=False)
        self.weights_hash = hash_weights(network.state_dict())
        if facts.restriction is not None:
            network = RestrictedNetwork(network, facts.restriction)
        self.network = move_to_device(network.eval().requires_grad_(False), device, channels_last)
        self.normalize = Normalizer(facts.mean, facts.std, device, channels_last)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """uint8 views [B, 3, S, S] to float32 logits [B, C]."""
        size, memory_format = self.facts.image_size, self.normalize.memory_format
        with autocast(self.device, self.precision):
            images = views if views.shape[-1] == size else resize_views(views, size, memory_format)
            return self.compiler(answer, self.network, self.normalize, images)

    def warm_up(self, batch_size: int, size: int) -> None:
        """Compile the network for batches of views of ``size`` pixels, where it is compiled; every process must call.

        Nothing is left of the answers that this takes.
        """
        ready_to_answer(self.network, self.device)
        views = torch.zeros(batch_size, 3, size, size, dtype=torch.uint8, device=self.device)

        def attempt() -> None:
            with self.compiler.without_gradients():
                self(views)

        self.compiler.try_out("the teacher", attempt)


def build_teacher(
    config: TeacherConfig,
    device: torch.device,
    precision: str,
    channels_last: bool = True,
    compiler: Compiler | None = None,
    restrict: Restrict | None = None,
) -> Teacher:
    """The teacher of a recipe, with weights from a local file or folder, from a hub, or of a function's.

    Args:
        channels_last: memory format of convolutions on CUDA.
        compiler: runs the network; None: as it is.
        restrict: to the recipe's ``restrict_to``; has to be given where that is.

    Raises:
        ConfigError, CheckpointError: as of ``models.open_network``.
    """
    network: nn.Module
    said = ("image_size", "mean", "std", "class_list")
    if config.head is not None:
        headed = headed_teacher(config, open_backbone(config))
        network = with_head = headed.open()
        facts = headed_facts(headed, with_head)
        said_by = {field: RECIPE for field in said if getattr(config, field) is not None}
        said_by = {"class_list": "the head"} | said_by
    else:
        opened = open_source(config, "teacher.")
        network, facts = opened.network, teacher_facts(config, opened.network, opened.card)
        said_by = {field: opened.said_by(config, field) for field in said}
    if config.restrict_to is not None:
        assert restrict is not None, "a teacher of other classes than its recipe's would be built in silence"
        facts = restrict(config, facts)
        said_by["class_list"] = "teacher.restrict_to"
    return Teacher(network, facts, device, precision, channels_last, compiler, said_by)


def teacher_facts(config: TeacherConfig, network: nn.Module, card: NetworkFacts) -> TeacherFacts:
    """What is known of a teacher from its network's card."""
    known = {field.name: getattr(card, field.name) for field in fields(NetworkFacts)}
    return TeacherFacts(name=_name(config) or class_name_of(network), **known)


def teacher_versions(config: TeacherConfig) -> dict[str, str]:
    """Versions of the further libraries that make a teacher, for the manifest."""
    used = {
        "torchvision": config.torchvision,
        "transformers": config.transformers,
        "open_clip_torch": config.open_clip,
    }
    return {library: version(library) for library, named in used.items() if named is not None}


def _name(config: TeacherConfig) -> str | None:
    """What a recipe calls its teacher; None where a file says what it is, wherever that lies."""
    if config.torchvision is not None:
        return f"torchvision.models.{config.torchvision}"
    is_on_the_hub = config.transformers is not None and not Path(config.transformers).exists()
    return config.name or config.call or config.open_clip or (config.transformers if is_on_the_hub else None)


def headed_facts(headed: HeadedTeacher, network: HeadedNetwork) -> TeacherFacts:
    """What is known of a teacher that is a backbone with a head file."""
    facts = teacher_facts(headed.config, network.backbone, headed.facts_of(network))
    return replace(facts, head=headed.head.hash)


def topk_probs(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k largest softmax probabilities, by ascending class, and the mass of the others.

    Args:
        logits: [B, C].
        k: at most C.

    Returns:
        indices int64 [B, k], probs float32 [B, k], residual float32 [B], not negative.
    """
    values, indices = logits.float().softmax(dim=1).topk(k, dim=1, sorted=False)
    indices, order = indices.sort(dim=1)
    probs = values.gather(1, order)
    return indices, probs, (1 - probs.sum(dim=1)).clamp(min=0)
