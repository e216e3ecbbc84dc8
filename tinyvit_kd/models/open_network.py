"""A trained network from anywhere, ready to be used, with its card: the one door of teachers, scores and predictions.

What has to be known of a network comes from the first of these that says it:

1. the recipe (``config.models.NetworkSource``);
2. the card in the file, which our own stages write;
3. ``config.json`` beside the file, which timm writes, and whoever exports for it;
4. timm's own configuration of the name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from tinyvit_kd.config.models import ModelSource, ModelSpec, NetworkSource
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.eval_views import known_views
from tinyvit_kd.models.families import build_network, named_by_timm
from tinyvit_kd.models.input_size import require_size, side_of
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.models.pretrained import fetch_pretrained
from tinyvit_kd.models.read_model import read_model

TIMM = "timm"


@dataclass(frozen=True)
class OpenedNetwork:
    """A network with its weights.

    Attributes:
        network: as it was built; nobody has set it to evaluation mode.
        card: what it is, after the recipe's word; ``class_ids`` are the file's.
        known_from: where what the recipe does not say stands: ``read_model.OWN_CARD``, config.json, or timm.
    """

    network: nn.Module
    card: ModelCard
    known_from: str


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


def open_source(source: NetworkSource, section: str = "") -> OpenedNetwork:
    """As ``open_network``, of any section that names a network.

    Args:
        section: of the recipe with a dot behind it, for messages; empty where the fields are at the top.
    """
    opened = open_pretrained(source, section) if source.file is None else _from_file(source, source.file, section)
    if opened.card.num_classes < 1:
        raise CheckpointError(
            "the network has no classifier: it is a backbone, which gives no probabilities",
            where=source.origin,
            fix="name one that has, or train a classifier on it (finetune, with these weights as its student's first)",
        )
    return opened


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
    return OpenedNetwork(network, _as_asked(source, card), TIMM)


def _from_file(source: NetworkSource, file: str, section: str) -> OpenedNetwork:
    found = read_model(model_path(file), source.name)
    known = known_network(source, found.card, section)
    network = known.build()
    # A head that does not fit is a mistake: as zeros, which a student may start from, it would say nothing.
    load_into(network, InitialWeights(found.state, exact_head=True), where=file)
    return OpenedNetwork(network, known.card_of(network), TIMM if found.card is None else found.known_from)


@dataclass(frozen=True)
class KnownNetwork:
    """What is known of a network before it is built, and without its weights.

    Attributes:
        source: what a recipe says of it.
        found: what its file says; None if it says nothing.
        num_classes, image_size: of the recipe, else the file's; None where neither says.
    """

    source: NetworkSource
    found: ModelCard | None
    spec: ModelSpec
    num_classes: int | None
    image_size: int | None

    def build(self) -> nn.Module:
        """The network with random weights."""
        return build_network(self.spec, self.num_classes, self.image_size)

    def card_of(self, network: nn.Module) -> ModelCard:
        """The card of the network once it is built, after the recipe's word."""
        if self.found is None:
            return _as_asked(self.source, _named_card(self.source, network))
        card = replace(self.found, architecture=_plain(self.spec), num_classes=_classes_of(network))
        return _as_asked(self.source, card)


def known_network(source: NetworkSource, found: ModelCard | None, section: str) -> KnownNetwork:
    """What a recipe and a file say of a network.

    Args:
        found: the file's card, or what ``config.json`` beside it says; None if there is neither.

    Raises:
        CheckpointError: nothing says which network it is.
        ConfigError: two sizes of its input are given.
    """
    spec = _spec(source, found, section)
    num_classes, image_size = source.num_classes, source.image_size
    if found is not None:
        num_classes, image_size = num_classes or found.num_classes, image_size or found.image_size
    require_size(spec.kwargs, image_size, f"{section}kwargs.img_size")
    return KnownNetwork(source, found, spec, num_classes, image_size)


def _spec(source: NetworkSource, found: ModelCard | None, section: str) -> ModelSpec:
    """The architecture: the recipe's, else that of the file or of the description beside it."""
    if source.name is not None and not _names(found, source.name):
        return ModelSpec(name=source.name, kwargs=source.kwargs)
    if found is not None:
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
        num_classes=_classes_of(network),
        image_size=side_of(source.kwargs.get("img_size", data["input_size"][-2:])),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        **known_views(data, f"timm's {source.name}"),
    )


def _plain(spec: ModelSpec) -> dict[str, Any]:
    """An architecture that a file may name: under timm's own name, without arguments that fetch."""
    return without_fetching(named_by_timm(spec)).model_dump(mode="json")


def _as_asked(source: NetworkSource, card: ModelCard) -> ModelCard:
    """The card after the recipe's word."""
    asked = {name: getattr(source, name) for name in ("image_size", "mean", "std")}
    return replace(card, **{name: value for name, value in asked.items() if value is not None})


def _classes_of(network: nn.Module) -> int:
    return int(network.num_classes)  # type: ignore[arg-type]
