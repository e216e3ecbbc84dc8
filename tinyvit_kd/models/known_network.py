"""What is known of a network, before it is built and once it is open, and who said it; whichever library makes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from tinyvit_kd.config.models import NetworkSource
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.called import answered
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runtime.log import note

RECIPE = "the recipe"
NAMED_AFTER = "named_after"
"""The attribute of a network that says which class it wraps."""
_INPUT = ("image_size", "mean", "std")


@dataclass(frozen=True)
class OpenedNetwork:
    """A network with its weights.

    Attributes:
        network: as it was built; nobody has set it to evaluation mode.
        card: what it is, after the recipe's word; ``class_ids`` are the file's.
        known_from: where what the recipe does not say stands: ``read_model.OWN_CARD``, config.json, timm, ….
        classes_from: where the class list stands, if elsewhere.
        embedding_size: D, where it gives embeddings [B, D] in place of logits; its card then has no class.
    """

    network: nn.Module
    card: ModelCard
    known_from: str
    classes_from: str | None = None
    embedding_size: int | None = None

    def said_by(self, source: NetworkSource, field: str) -> str:
        """Who says what ``image_size``, ``mean``, ``std`` or ``class_list`` is, for people."""
        if getattr(source, field) is not None:
            return RECIPE
        return self.classes_from if field == "class_list" and self.classes_from is not None else self.known_from


class KnownNetwork(Protocol):
    """A network of which it is known what it is, and which nobody has built."""

    def shell(self) -> nn.Module:
        """The network with random weights; nothing is fetched, but perhaps its description."""

    def card_of(self, network: nn.Module) -> ModelCard:
        """The card of the network once it is built, after the recipe's word."""


def after_the_recipe(source: NetworkSource, card: ModelCard) -> ModelCard:
    """The card after the recipe's word."""
    asked = {name: getattr(source, name) for name in _INPUT}
    return replace(card, **{name: value for name, value in asked.items() if value is not None})


def input_of(source: NetworkSource, section: str, known: dict[str, Any], who: str) -> dict[str, Any]:
    """image_size, mean and std: the recipe's, else those that are known.

    Args:
        section: of the recipe with a dot behind it, for messages.
        known: by name; what is None, or not there, is not known.
        who: would have said them, for messages.

    Raises:
        ConfigError: nobody says one of them.
    """
    found = {name: getattr(source, name) if getattr(source, name) is not None else known.get(name) for name in _INPUT}
    missing = [f"{section}{name}" for name, value in found.items() if value is None]
    if missing:
        raise ConfigError(
            "nothing says what images the network takes",
            where=who,
            found=f"no {', '.join(missing)}",
            fix="set them to what the network was trained with: the side of its images in pixels, and the mean and "
            "deviation, 0 to 1, by which they were normalised",
        )
    return found


def class_name_of(network: nn.Module) -> str:
    """The class of a network, for people; of one that is wrapped to give embeddings, its own."""
    return str(getattr(network, NAMED_AFTER, type(network).__name__))


def classes_of(network: nn.Module) -> int:
    """C of a built network."""
    found = answered(network)
    return int(network.num_classes) if found is None else found.width  # type: ignore[arg-type]


def distinct_names(names: Any, num_classes: int, who: str) -> tuple[str, ...] | None:
    """The classes by name, where each has one of its own: only these can be compared with labels.

    Args:
        names: a list, or a mapping from numbers as text; of any kind and length.
        who: has them, for the line that tells if they are of no use.
    """
    if isinstance(names, dict):
        names = [names.get(str(number)) for number in range(num_classes)]
    if not names:
        return None
    if len(names) == num_classes and all(isinstance(name, str) for name in names) and len(set(names)) == num_classes:
        return tuple(names)
    note(f"{who} do not give each of the {num_classes:,} classes a name of its own, and are not used")
    return None


def require_trusted(card: ModelCard, where: str, section: str) -> None:
    """Refuse a file whose network is made by code, unless the recipe names that code itself.

    Args:
        section: of the recipe with a dot behind it, for messages; empty where options may have said it, too.

    Raises:
        CheckpointError: naming what the file would have imported.
    """
    if card.spec.call is not None:
        in_options = "" if section else f", or give --library call --name {card.spec.call}"
        raise CheckpointError(
            "the model file names a function that makes its network, and nothing was imported",
            where=where,
            found=f"call: {card.spec.call}",
            expected="a recipe that names the function itself: a model file may come from anybody, and may not decide "
            "what code runs",
            fix=f"if you know this function and trust it, set {section}call to {card.spec.call}{in_options}",
        )
