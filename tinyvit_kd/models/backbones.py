"""The networks below a head file: whichever library has them, built with random weights or opened with their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import nn

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.known_network import KnownNetwork
from tinyvit_kd.models.load_weights import InitialWeights, head_names, load_into
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard, NetworkFacts, StateDict
from tinyvit_kd.models.open_clip_networks import OpenClipImages
from tinyvit_kd.models.open_network import SpecifiedNetwork, known_network, open_pretrained, open_source
from tinyvit_kd.models.read_model import read_model

_SECTION = "teacher."


class Backbone(Protocol):
    """What is known of a network before it is built."""

    def build(self) -> nn.Module:
        """The network with random weights; nothing is fetched."""

    def open(self, keeps_output: Callable[[nn.Module], bool]) -> nn.Module:
        """The network with its weights, its own classifier included.

        Args:
            keeps_output: whether the classifier of a network is used; its weights are needed only then.
        """

    def facts_of(self, network: nn.Module) -> NetworkFacts:
        """What has to be known of the network that ``build`` or ``open`` made, after the recipe's word."""


@dataclass(frozen=True)
class TimmBackbone:
    """A network of timm, or of widths that a file names.

    Attributes:
        state: weights of the recipe's file; None: timm's, or they are not read.
    """

    config: TeacherConfig
    known: SpecifiedNetwork
    state: StateDict | None = None

    def build(self) -> nn.Module:
        """The network with random weights, and without fetching any."""
        return self.known.shell()

    def open(self, keeps_output: Callable[[nn.Module], bool]) -> nn.Module:
        """The network with its weights; see ``Backbone``."""
        if self.state is None:
            return open_pretrained(self.config, _SECTION).network
        network = self.known.build()
        exact = keeps_output(network)
        # A classifier that nobody asks may be missing in the file, or be one of other classes.
        fresh = not exact and bool(head_names(network))
        load_into(network, InitialWeights(self.state, exact_head=exact, fresh_head=fresh), where=self.config.origin)
        return network

    def facts_of(self, network: nn.Module) -> NetworkFacts:
        """What has to be known of the network, after the recipe's word."""
        return self.known.card_of(network)


@dataclass(frozen=True)
class OtherBackbone:
    """A network of torchvision, of transformers or of a function, which its own library opens without a classifier."""

    config: TeacherConfig
    known: KnownNetwork

    def build(self) -> nn.Module:
        """The network with random weights."""
        return self.known.shell()

    def open(self, keeps_output: Callable[[nn.Module], bool]) -> nn.Module:
        """The network with its weights."""
        del keeps_output
        return open_source(self.config, _SECTION, embeddings=True).network

    def facts_of(self, network: nn.Module) -> NetworkFacts:
        """What has to be known of the network, after the recipe's word."""
        return self.known.card_of(network)


def open_backbone(config: TeacherConfig) -> Backbone:
    """The backbone of a recipe's teacher, with its file read.

    Raises:
        ConfigError, CheckpointError: as of ``models.open_network.open_source``.
    """
    if config.file is None or config.open_clip is not None or config.torchvision is not None:
        return backbone_of(config, None)
    found = read_model(model_path(config.file), config.name)
    backbone = backbone_of(config, found.card)
    return replace(backbone, state=found.state) if isinstance(backbone, TimmBackbone) else backbone


def backbone_of(config: TeacherConfig, card: ModelCard | None) -> Backbone:
    """The backbone of a recipe's teacher, of which no weights are read before it is opened.

    Args:
        card: what its file says of it; None if that is not known.

    Raises:
        ConfigError, CheckpointError: nothing says which network it is, or two sizes of its input are given.
    """
    if config.open_clip is not None:
        return OpenClipImages(config)
    if config.call is not None or config.torchvision is not None or config.transformers is not None:
        return OtherBackbone(config, known_network(config, card, _SECTION, embeddings=True))
    known = known_network(config, card, _SECTION)
    assert isinstance(known, SpecifiedNetwork), "all others are named by the fields above"
    return TimmBackbone(config, known)
