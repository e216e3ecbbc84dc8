"""Opens a network with the classes that a recipe names, and says where everything that is known of it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tinyvit_kd.config.models import NetworkSource
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.models.known_network import OpenedNetwork
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.open_network import TIMM, open_source
from tinyvit_kd.runs.class_lists import card_classes, named_classes
from tinyvit_kd.runtime.wording import printable


def open_with_classes(source: NetworkSource, section: str = "") -> OpenedNetwork:
    """As ``models.open_network.open_source``; its card has the recipe's class list, where that names one.

    Args:
        section: of the recipe with a dot behind it, for messages; empty where the fields are at the top.

    Raises:
        ConfigError: besides, ``class_list`` is not a class list, or has another number of classes than the network.
    """
    opened = open_source(source, section)
    if source.class_list is None:
        return opened
    card = opened.card
    classes = named_classes(source.class_list, card.num_classes, network_name(opened), f"{section}class_list")
    return replace(opened, card=replace(card, class_name=classes.name, class_ids=classes.ids))


def known_classes(source: NetworkSource, card: ModelCard) -> ClassList | None:
    """The classes of an opened network; those of a class list that the recipe names have their names, too."""
    return card_classes(card) if source.class_list is None else load_class_list(source.class_list)


def network_name(opened: OpenedNetwork) -> str:
    """What to call a network: timm's name, or that of a function, or its class where it was built from widths."""
    made_by = (opened.card.spec.call or "").removesuffix(".from_pretrained")  # of transformers' classes
    return opened.card.spec.name or made_by or type(opened.network).__name__


def network_line(opened: OpenedNetwork, source: NetworkSource) -> str:
    """The line that announces a network: every fact that it is used by, and who said so."""
    card = opened.card

    def by(field: str) -> str:
        return opened.said_by(source, field)

    classes = "no class list" if card.class_ids is None else f"{card.class_name}, from {by('class_list')}"
    said = (
        f"model {network_name(opened)}: weights from {source.origin}, {card.num_classes:,} classes ({classes}), "
        f"input of {card.image_size} pixels (from {by('image_size')}), mean {in_figures(card.mean)} "
        f"(from {by('mean')}), deviation {in_figures(card.std)} (from {by('std')})"
    )
    return printable(said + _larger_test(opened, source))


def _larger_test(opened: OpenedNetwork, source: NetworkSource) -> str:
    """Where timm's published scores are those of another size than a network was trained at, how to have it."""
    config: Any = getattr(opened.network, "pretrained_cfg", {})
    size = (config.get("test_input_size") or [0])[-1]
    if opened.known_from != TIMM or source.image_size is not None or size in (0, opened.card.image_size):
        return ""
    crop = config.get("test_crop_pct")
    set_crop = "" if crop is None else f" and views.crop_pct to {crop:g}"
    return f"; timm publishes its score at {size} pixels: for that set image_size to {size}{set_crop}"


def in_figures(values: Sequence[float]) -> str:
    """A mean or deviation, for people: ``0.485 0.456 0.406``."""
    return " ".join(f"{value:g}" for value in values)
