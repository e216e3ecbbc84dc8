"""A backbone and a head file as one network: embeddings become logits of the user's own classes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer_once
from tinyvit_kd.models.backbones import Backbone
from tinyvit_kd.models.head_file import OF_TEXTS, Head, read_head
from tinyvit_kd.models.known_network import class_name_of
from tinyvit_kd.models.modelfile import NetworkFacts
from tinyvit_kd.runtime.foreign_errors import first_line_of


class HeadedNetwork(nn.Module):
    """Images to float32 logits [B, C] = scale · W (e - center) + bias, of the backbone's embedding e [B, D].

    The head works in float32 whatever the backbone's precision: CLIP multiplies cosines by 100, which float16 would
    round to tenths of a logit.

    Args:
        backbone: maps images to embeddings.
        head: of their width.
    """

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.weight: torch.Tensor
        self.bias: torch.Tensor | None
        self.center: torch.Tensor | None
        self.scale: torch.Tensor
        device = next(backbone.parameters()).device
        self.register_buffer("weight", head.rows.to(device))
        for name in ("bias", "center"):
            self.register_buffer(name, head.further[name].to(device) if name in head.further else None)
        self.register_buffer("scale", torch.tensor(head.scale, dtype=torch.float32, device=device))
        # Whatever changes the logits is in the weights' hash.
        self.register_buffer("normalizes", torch.tensor(head.normalizes_embeddings, device=device))
        self.normalizes_embeddings = head.normalizes_embeddings

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] to logits [B, C]."""
        embeddings = self.backbone(images).float()
        with _in_float32(embeddings.device):
            if self.center is not None:
                embeddings = embeddings - self.center
            if self.normalizes_embeddings:
                embeddings = F.normalize(embeddings, dim=1)
            logits = self.scale * F.linear(embeddings, self.weight)
            return logits if self.bias is None else logits + self.bias


def _in_float32(device: torch.device) -> AbstractContextManager[None]:
    """Without autocast; a device of tensors without numbers, where networks are measured, has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


@dataclass(frozen=True)
class HeadedTeacher:
    """A backbone and its head, before the weights are read.

    Attributes:
        config: the recipe's teacher, which names the head.
        head: after the recipe's word on scale and normalisation.
        backbone: what is known of the network.
    """

    config: TeacherConfig
    head: Head
    backbone: Backbone

    def build(self) -> HeadedNetwork:
        """The network with random weights below its head."""
        return self._with_head(self.backbone.build())

    def open(self) -> HeadedNetwork:
        """The network with its weights."""
        return self._with_head(self.backbone.open(self._keeps_output))

    def facts_of(self, network: HeadedNetwork) -> NetworkFacts:
        """What has to be known of the network that ``build`` or ``open`` made."""
        return replace(
            self.backbone.facts_of(network.backbone),
            num_classes=len(self.head.weight),
            class_name=self.head.class_name,
            class_ids=self.head.class_ids,
        )

    def _keeps_output(self, network: nn.Module) -> bool:
        prefers_output = (self.head.made_from or {}).get("kind") == OF_TEXTS
        return keeps_output(network, self.config, self.head.weight.shape[1], prefers_output)

    def _with_head(self, network: nn.Module) -> HeadedNetwork:
        size = self.backbone.facts_of(network).image_size
        given = without_classifier(network, self._keeps_output(network))
        _require_width(given, size, self.head.weight.shape[1], self.config)
        return HeadedNetwork(given, self.head)


def headed_teacher(config: TeacherConfig, backbone: Backbone) -> HeadedTeacher:
    """The teacher of a recipe that names a head.

    Raises:
        CheckpointError: the head cannot be read.
    """
    assert config.head is not None
    head = read_head(config.head)
    if config.head_scale is not None:
        head = replace(head, scale=config.head_scale)
    if config.head_normalize is not None:
        head = replace(head, normalize=config.head_normalize)
    return HeadedTeacher(config, head, backbone)


def keeps_output(network: nn.Module, config: TeacherConfig, width: int | None, prefers_output: bool) -> bool:
    """Whether a network's embedding is its output, not the pooled features below its classifier.

    timm has the projection of CLIP's image towers as their classifier, so that their embedding is their output.

    Args:
        config: its ``embedding`` decides, unless it is auto.
        width: D of the head; None: there is none yet.
        prefers_output: whether the output comes first where both have this width.
    """
    elsewhere = (config.call, config.torchvision, config.transformers, config.open_clip)
    if any(each is not None for each in elsewhere) or config.embedding == "output":
        return True  # opened without a classifier, or what the function returns
    if config.embedding == "pooled" or width is None or getattr(network, "num_classes", 0) != width:
        return False
    return prefers_output or _pooled_width(network) != width


def without_classifier(network: nn.Module, keeps_output: bool) -> nn.Module:
    """The network so that it gives embeddings."""
    if not keeps_output:
        network.reset_classifier(0)  # type: ignore[operator]
    return network


def _require_width(network: nn.Module, image_size: int, width: int, config: TeacherConfig) -> None:
    found = embedding_width(network, image_size, called(network, config))
    if found != width:
        raise ConfigError(
            "the head is for embeddings of another width than the teacher's backbone gives",
            where=f"teacher.head: {config.head}",
            found=f"a head of {width}; {found} from {called(network, config)}",
            fix="make a head from this backbone's embeddings (tinyvit-kd head), or name the backbone that it was made "
            "from; teacher.embedding chooses between pooled features and output",
        )


def _pooled_width(network: nn.Module) -> int | None:
    """What timm says of a network's pooled features; None of others."""
    return getattr(network, "head_hidden_size", getattr(network, "num_features", None))


def embedding_width(network: nn.Module, image_size: int, who: str) -> int:
    """D, how wide the embedding of an image is; the network is asked once.

    Args:
        image_size: side of its input, pixels.
        who: the network, for messages.

    Raises:
        ConfigError: it takes no images of this size, or gives no embedding of them.
    """
    try:
        given = answer_once(network, image_size)
    except Exception as error:  # networks raise anything for images that they do not take
        raise ConfigError(
            "the network does not take images of this size",
            where=who,
            found=f"{image_size} x {image_size} pixels: {first_line_of(error)}",
            fix="set teacher.image_size to a size that it takes, or choose another network",
        ) from error
    if not isinstance(given, torch.Tensor) or given.ndim != 2:
        shape = list(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise ConfigError(
            "the network gives no embedding of an image",
            where=who,
            found=f"{shape} for one image",
            expected="[1, D]",
            fix="choose a network that pools its features, or have it do so by its arguments (teacher.kwargs)",
        )
    return int(given.shape[1])


def called(network: nn.Module, config: TeacherConfig) -> str:
    """What a recipe's backbone is called, for people."""
    named = (config.name, config.call, config.torchvision, config.transformers, config.open_clip)
    return next((each for each in named if each is not None), class_name_of(network))
