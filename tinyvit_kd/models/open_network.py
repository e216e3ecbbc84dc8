"""A trained network from anywhere, ready to be used, with its card: the one door of teachers, scores and predictions.

What has to be known of a network comes from the first of these that says it:

1. the recipe (``config.models.NetworkSource``);
2. the card in the file, which our own stages write;
3. ``config.json`` beside the file, which timm writes, and whoever exports for it;
4. timm's own configuration of the name.

``torchvision_networks`` and ``transformers_networks`` open those of other libraries, ``called`` what code of the
recipe's author makes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import ModelSource, NetworkSource
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.called import build_called
from tinyvit_kd.models.eval_views import known_views
from tinyvit_kd.models.families import build_network, named_by_timm
from tinyvit_kd.models.input_size import require_size, side_of
from tinyvit_kd.models.known_network import (
    KnownNetwork,
    OpenedNetwork,
    after_the_recipe,
    classes_of,
    input_of,
    require_trusted,
)
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.models.pretrained import fetch_pretrained
from tinyvit_kd.models.read_model import read_model
from tinyvit_kd.models.torchvision_networks import known_torchvision, open_torchvision
from tinyvit_kd.models.transformers_networks import known_transformers, open_transformers

TIMM = "timm"
ITSELF = "the network itself"


def open_network(source: ModelSource) -> tuple[nn.Module, ModelCard]:
    """A network, and its card, after the recipe's word; ``source.class_list`` is the caller's to read.

    Raises:
        ConfigError: timm knows no such network or no weights of it, the hub cannot be reached, or the weights' number
            of classes is not the recipe's.
        CheckpointError: the file is missing, damaged, holds more than weights and settings, belongs to another
            network, has no classifier, or nothing says which network it holds.
    """
    opened = open_source(source)
    return opened.network, opened.card


def open_source(source: NetworkSource, section: str = "", embeddings: bool = False) -> OpenedNetwork:
    """As ``open_network``, of any section that names a network.

    Args:
        section: of the recipe with a dot behind it, for messages; empty where the fields are at the top.
        embeddings: whether to open the network without its classifier, so that it gives a pooled embedding [B, D] of
            each image; of ``call``, ``torchvision`` and ``transformers`` alone.
    """
    opened = _opened(source, section, embeddings)
    if opened.card.num_classes < 1 and not embeddings:
        raise CheckpointError(
            "the network has no classifier: it is a backbone, which gives no probabilities",
            where=source.origin,
            fix="name one that has, or train a classifier on it (finetune, with these weights as its student's first)",
        )
    return opened


def _opened(source: NetworkSource, section: str, embeddings: bool) -> OpenedNetwork:
    if source.torchvision is not None:
        return open_torchvision(source, section, embeddings)
    if source.transformers is not None:
        return open_transformers(source, section, embeddings)
    assert source.call is not None or not embeddings, "of timm's networks the head is told apart elsewhere"
    if source.file is not None:
        return _from_file(source, source.file, section, embeddings)
    if source.call is not None:
        known = _specified(source, None, section, embeddings)
        network = known.build()
        return OpenedNetwork(network, known.card_of(network), ITSELF, embedding_size=known.embedding_size(network))
    return open_pretrained(source, section)


def open_pretrained(source: NetworkSource, section: str) -> OpenedNetwork:
    """A network with timm's weights for its name.

    Raises:
        ConfigError: timm knows no such network or no weights of it, the hub cannot be reached, or the number of classes
            is not the recipe's.
    """
    assert source.name is not None, "NetworkSource holds a name where it holds pretrained"
    require_size(source.kwargs, source.image_size, f"{section}kwargs.img_size")
    network = fetch_pretrained(source.name, source.image_size, source.kwargs, section)
    card = _named_card(source, network)
    if source.num_classes not in (None, card.num_classes):
        # timm would draw a random head of that size, which would say nothing, silently.
        raise ConfigError(
            "the pretrained head has another number of classes",
            where=f"{section}num_classes",
            found=str(source.num_classes),
            expected=str(card.num_classes),
        )
    return OpenedNetwork(network, after_the_recipe(source, card), TIMM)


def _from_file(source: NetworkSource, file: str, section: str, embeddings: bool) -> OpenedNetwork:
    found = read_model(model_path(file), source.name)
    known = _specified(source, found.card, section, embeddings)
    network = known.build()
    # A head that does not fit is a mistake: as zeros, which a student may start from, it would say nothing.
    load_into(network, InitialWeights(found.state, exact_head=True), where=file)
    known_from = found.known_from if found.card is not None else ITSELF if source.call is not None else TIMM
    return OpenedNetwork(network, known.card_of(network), known_from, embedding_size=known.embedding_size(network))


@dataclass(frozen=True)
class SpecifiedNetwork:
    """What is known of a network of timm's, of TinyViT's widths or of a recipe's author, without its weights.

    Attributes:
        source: what a recipe says of it.
        found: what its file says; None if it says nothing.
        num_classes, image_size: of the recipe, else the file's; None where neither says.
        section: of the recipe with a dot behind it, for messages.
        embeddings: whether it gives embeddings in place of logits.
    """

    source: NetworkSource
    found: ModelCard | None
    spec: ModelSpec
    num_classes: int | None
    image_size: int | None
    section: str
    embeddings: bool = False

    def build(self) -> nn.Module:
        """The network with random weights, or those that a function gives it."""
        if not self.embeddings:
            return build_network(self.spec, self.num_classes, self.image_size)
        assert self.image_size is not None
        return build_called(self.spec, {"img_size": self.image_size}, self.image_size, seed=0, embeddings=True)

    def shell(self) -> nn.Module:
        """The same, without fetching any."""
        return replace(self, spec=without_fetching(self.spec) if self.spec.call is None else self.spec).build()

    def card_of(self, network: nn.Module) -> ModelCard:
        """The card of the network once it is built, after the recipe's word."""
        num_classes = 0 if self.embeddings else classes_of(network)
        if self.found is not None:
            card = replace(self.found, architecture=_plain(self.spec), num_classes=num_classes)
        elif self.spec.call is not None:
            said = input_of(self.source, self.section, {}, f"{self.section}call: {self.spec.call}")
            card = ModelCard(architecture=_plain(self.spec), num_classes=num_classes, **said)
        else:
            card = _named_card(self.source, network)
        return after_the_recipe(self.source, card)

    def embedding_size(self, network: nn.Module) -> int | None:
        """D of the embeddings; None where it gives logits."""
        return classes_of(network) if self.embeddings else None


def known_network(
    source: NetworkSource, found: ModelCard | None, section: str, embeddings: bool = False
) -> KnownNetwork:
    """What a recipe and a file say of a network.

    Args:
        found: the file's card, or what ``config.json`` beside it says; None if there is neither.
        embeddings: as of ``open_source``.

    Raises:
        CheckpointError: nothing says which network it is, or the file names code that the recipe does not.
        ConfigError: two sizes of its input are given, or none of a network of which nothing is known.
    """
    if source.torchvision is not None:
        return known_torchvision(source, section, embeddings)
    if source.transformers is not None:
        return known_transformers(source, section, embeddings)
    return _specified(source, found, section, embeddings)


def _specified(source: NetworkSource, found: ModelCard | None, section: str, embeddings: bool) -> SpecifiedNetwork:
    spec = _spec(source, found, section)
    num_classes, image_size = source.num_classes, source.image_size
    if found is not None:
        num_classes, image_size = num_classes or found.num_classes, image_size or found.image_size
    elif spec.call is not None:
        image_size = input_of(source, section, {}, f"{section}call: {spec.call}")["image_size"]
    require_size(spec.kwargs, image_size, f"{section}kwargs.img_size")
    return SpecifiedNetwork(source, found, spec, num_classes, image_size, section, embeddings)


def _spec(source: NetworkSource, found: ModelCard | None, section: str) -> ModelSpec:
    """The architecture: the recipe's, else that of the file or of the description beside it."""
    if source.call is not None and (found is None or found.spec.call != source.call):
        return ModelSpec(call=source.call, kwargs=source.kwargs)
    if source.name is not None and not _names(found, source.name):
        return ModelSpec(name=source.name, kwargs=source.kwargs)
    if found is not None:
        if source.call is None:
            require_trusted(found, source.origin, section)
        return found.spec_with(source.kwargs)
    raise CheckpointError(
        "a model file does not say which network it holds",
        where=source.origin,
        expected="a file that a stage of this package wrote, or a folder with timm's config.json",
        fix=f"name the network: {section}name, a timm model name",
    )


def _names(card: ModelCard | None, name: str) -> bool:
    """Whether a card's network is the one of that name, whatever their tags."""
    own = card.spec.name if card is not None else None
    return own is not None and own.partition(".")[0] == name.partition(".")[0]


def _named_card(source: NetworkSource, network: nn.Module) -> ModelCard:
    """What timm says of a network that a recipe names."""
    data = resolve_model_data_config(network)
    return ModelCard(
        architecture=_plain(ModelSpec(name=source.name, kwargs=source.kwargs)),
        num_classes=classes_of(network),
        image_size=side_of(source.kwargs.get("img_size", data["input_size"][-2:])),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        **known_views(data, f"timm's {source.name}"),
    )


def _plain(spec: ModelSpec) -> dict[str, Any]:
    """An architecture that a file may name: under timm's own name, without arguments that fetch."""
    return without_fetching(named_by_timm(spec)).model_dump(mode="json")
