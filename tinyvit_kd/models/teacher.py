"""Teachers: any timm network with its own normalisation and input size, in evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from timm.data import resolve_model_data_config
from torch import nn

from tinyvit_kd.config.models import ModelSpec, TeacherConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer, ready_to_answer
from tinyvit_kd.models.families import build_network, create
from tinyvit_kd.models.input_size import require_size, resize_views
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.modelfile import ModelCard, NetworkFacts, hash_weights, load_model_file
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device import autocast, move_to_device, resolve_precision
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.foreign_errors import first_line_of

_SIZE = "teacher.kwargs.img_size"


@dataclass(frozen=True, kw_only=True)
class TeacherFacts(NetworkFacts):
    """What has to be known of a teacher, beside its weights.

    Attributes:
        name: the network's, for people.
    """

    name: str


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
        weights_hash: 32 hexadecimal digits over all names and tensors.
        compiler: runs the network.
    """

    def __init__(
        self,
        network: nn.Module,
        facts: TeacherFacts,
        device: torch.device,
        precision: str,
        channels_last: bool = True,
        compiler: Compiler | None = None,
    ) -> None:
        super().__init__()
        self.facts, self.device = facts, device
        self.compiler = compiler or Compiler(solo_job())
        self.precision = resolve_precision(device, precision, trains=False)
        self.weights_hash = hash_weights(network.state_dict())
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
) -> Teacher:
    """The teacher of a recipe, with weights from a local file or from timm's hub.

    Args:
        channels_last: memory format of convolutions on CUDA.
        compiler: runs the network; None: as it is.

    Raises:
        ConfigError: timm knows no such model, the name is missing, or two sizes of its input are given.
        CheckpointError: the weights are missing, damaged, or another network's.
    """
    if config.pretrained:
        network = _from_hub(config)
        facts = teacher_facts(config, network, None)
    else:
        network, card = _from_file(config)
        facts = teacher_facts(config, network, card)
    return Teacher(network, facts, device, precision, channels_last, compiler)


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


def _from_hub(config: TeacherConfig) -> nn.Module:
    assert config.name is not None, "TeacherConfig holds a name where it holds pretrained"
    require_size(config.kwargs, config.image_size, _SIZE)
    try:
        network = create(config.name, config.image_size, {**config.kwargs, "pretrained": True})
    except Exception as error:  # the hub raises errors of many libraries
        raise ConfigError(
            "timm cannot create the teacher with its pretrained weights",
            where=f"teacher.name: {config.name}",
            found=first_line_of(error),
            fix="check the name, the connection to the hub and its cache (HF_HOME, a folder that can be written), or "
            "give teacher.checkpoint, a local file",
        ) from error
    if config.num_classes not in (None, network.num_classes):
        # timm would draw a random head of that size, which would teach nothing, silently.
        raise ConfigError(
            "the teacher's pretrained head has another number of classes",
            where="teacher.num_classes",
            found=str(config.num_classes),
            expected=str(network.num_classes),
        )
    return network


def _from_file(config: TeacherConfig) -> tuple[nn.Module, ModelCard | None]:
    assert config.checkpoint is not None, "TeacherConfig holds a checkpoint or pretrained"
    state, card = load_model_file(config.checkpoint)
    if config.name is not None:
        spec = ModelSpec(name=config.name, kwargs=config.kwargs)
    elif card is not None:
        spec = card.spec_with(config.kwargs)
    else:
        raise ConfigError(
            "the teacher's checkpoint does not say which network it holds",
            where=str(config.checkpoint),
            fix="name it: teacher.name, a timm model name",
        )
    num_classes = config.num_classes or (card.num_classes if card else None)
    image_size = config.image_size or (card.image_size if card else None)
    require_size(spec.kwargs, image_size, _SIZE)
    network = build_network(spec, num_classes, image_size)
    # A head that does not fit is a mistake: as zeros, which a student may start from, it would teach nothing.
    load_into(network, InitialWeights(state, exact_head=True), where=str(config.checkpoint))
    return network, card


def teacher_facts(config: TeacherConfig, network: nn.Module, card: ModelCard | None) -> TeacherFacts:
    """What is known of a teacher: the recipe's word, else the file's, else timm's."""
    known = card or _timm_facts(config, network)
    return TeacherFacts(
        name=config.name or type(network).__name__,
        num_classes=network.num_classes,  # type: ignore[arg-type]
        image_size=config.image_size or known.image_size,
        mean=config.mean or known.mean,
        std=config.std or known.std,
        class_name=known.class_name,
        class_ids=known.class_ids,
    )


def _timm_facts(config: TeacherConfig, network: nn.Module) -> NetworkFacts:
    data = resolve_model_data_config(network)
    return NetworkFacts(
        num_classes=network.num_classes,  # type: ignore[arg-type]
        image_size=config.kwargs.get("img_size", data["input_size"][-1]),
        mean=data["mean"],
        std=data["std"],
    )
