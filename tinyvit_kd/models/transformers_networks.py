"""Image classifiers of Hugging Face transformers, from a folder or the hub, with their own preprocessing and classes.

Code that a repository brings along is never run (``trust_remote_code`` stays off).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import NetworkSource
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.called import settle
from tinyvit_kd.models.eval_views import known_views
from tinyvit_kd.models.known_network import (
    NAMED_AFTER,
    OpenedNetwork,
    after_the_recipe,
    classes_of,
    distinct_names,
    input_of,
)
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.needed_library import needing
from tinyvit_kd.models.transformers_preprocessing import PREPROCESSOR, Shown, quiet, shown, side_or_none
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable

CONFIG = "config.json"
ID2LABEL = "id2label"
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers calls classes that nobody named
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SHOWN = 5  # names in a message


def open_transformers(source: NetworkSource, section: str, embeddings: bool) -> OpenedNetwork:
    """A network that transformers opens, with its weights.

    Raises:
        ConfigError: transformers is not installed, or there is no image classifier, or none that can be opened without
            code of its own.
        CheckpointError: the weights lack some of the network's tensors.
    """
    known = known_transformers(source, section, embeddings)
    network = known.opened()
    size = classes_of(network) if embeddings else None
    return OpenedNetwork(network, known.card_of(network), known.known_from, CONFIG, size)


def known_transformers(source: NetworkSource, section: str, embeddings: bool) -> TransformersNetwork:
    """What the files of a network say of it, without its weights.

    Raises:
        ConfigError: as of ``open_transformers``, or nothing says what input it takes.
    """
    assert source.transformers is not None
    where = f"{section}transformers: {source.transformers}"
    library = transformers_library(where)
    is_local = _is_local(source.transformers, where)
    options = {"local_files_only": is_local, "trust_remote_code": False}
    with _reading(where, "its description"):
        config = library.AutoConfig.from_pretrained(source.transformers, **options)
    if not embeddings and type(config) not in library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ConfigError(
            "transformers has no image classifier of this kind",
            where=where,
            found=f"model_type: {config.model_type}",
            expected="a model for AutoModelForImageClassification",
            fix="name an image classifier, or a function of your own (call) that returns one",
        )
    found = shown(library, source.transformers, options, where)
    said = input_of(
        source, section, {"image_size": side_or_none(getattr(config, "image_size", None))} | found.said, where
    )
    return TransformersNetwork(source, where, library, config, options, found, said, embeddings)


@dataclass(frozen=True)
class TransformersNetwork:
    """What is known of a network that transformers opens, without its weights.

    Attributes:
        source: what a recipe says of it.
        where: the field, for messages.
        library: the package transformers, which not everybody has.
        config: its own description.
        options: of everything that is read.
        shown: what its preprocessing makes of images.
        said: image_size, mean and std, after the recipe's word.
    """

    source: NetworkSource
    where: str
    library: Any
    config: Any
    options: dict[str, Any]
    shown: Shown
    said: dict[str, Any]
    embeddings: bool

    @property
    def is_local(self) -> bool:
        """Whether it is a folder, and not a name of the hub."""
        return bool(self.options["local_files_only"])

    @property
    def known_from(self) -> str:
        """Where what the recipe does not say stands, for people."""
        return PREPROCESSOR if self.shown.said else CONFIG

    def shell(self) -> nn.Module:
        """The network with random weights, with attention as matrix products, which can be counted."""
        with _reading(self.where, "its description"), quiet(self.library), torch.random.fork_rng(devices=[]):
            network = self._kind.from_config(self.config, attn_implementation="eager")
        return self._settled(network)

    def opened(self) -> nn.Module:
        """The network with its weights, in float32."""
        network, missing = self._loaded()
        if missing and self.embeddings and all("pooler." in name for name in missing):
            # As a classifier, such a network takes the first token; its weights have no pooling layer.
            network, missing = self._loaded(add_pooling_layer=False)
        if missing:
            raise CheckpointError(
                "the weights lack some of the network's tensors: as a classifier it would answer at random",
                where=self.where,
                found=f"{', '.join(sorted(missing)[:_SHOWN])}{' and more' if len(missing) > _SHOWN else ''} of "
                f"{type(network).__name__} {'is' if len(missing) == 1 else 'are'} missing",
                fix="name a model that was trained to classify images, not a backbone alone",
            )
        return self._settled(network)

    def card_of(self, network: nn.Module) -> ModelCard:
        """The card of the network once it is built, after the recipe's word."""
        num_classes = 0 if self.embeddings else classes_of(network)
        names = None if self.embeddings else _class_names(self.config, num_classes, str(self.source.transformers))
        kind = self._kind.__name__ if self.embeddings else type(network).__name__
        call = f"transformers.{kind}.from_pretrained"
        # Cards are published; where a folder lies is nobody's business.
        kwargs = {} if self.is_local else {"pretrained_model_name_or_path": str(self.source.transformers)}
        spec = ModelSpec(call=call, kwargs=kwargs)
        card = ModelCard(
            architecture=spec.model_dump(mode="json"),
            num_classes=num_classes,
            class_name=ID2LABEL if names is not None else None,
            class_ids=names,
            **self.said,
            **known_views(self.shown.views, f"{self.source.transformers}: {PREPROCESSOR}"),
        )
        return after_the_recipe(self.source, card)

    @property
    def _kind(self) -> Any:
        return self.library.AutoModel if self.embeddings else self.library.AutoModelForImageClassification

    def _loaded(self, **arguments: Any) -> tuple[nn.Module, set[str]]:
        """The network, and the names of its tensors that its weights do not have."""
        with _reading(self.where, "it"), quiet(self.library), torch.random.fork_rng(devices=[]):
            network, told = self._kind.from_pretrained(
                self.source.transformers, **self.options, **arguments, dtype=torch.float32, output_loading_info=True
            )
        if (others := sorted(told["unexpected_keys"])) and not self.embeddings:
            more = " and more" if len(others) > _SHOWN else ""
            note(f"{self.source.transformers}: left out {', '.join(map(printable, others[:_SHOWN]))}{more}")
        return network, set(told["missing_keys"])

    def _settled(self, network: nn.Module) -> nn.Module:
        size = self.said["image_size"]
        if self.embeddings:
            network = _Embedding(network)
        elif side_or_none(getattr(self.config, "image_size", None)) not in (None, size):
            _allow_other_sizes(network)
        return settle(network, size, None if self.embeddings else self.source.num_classes, self.where, self.embeddings)


class _Embedding(nn.Module):
    """The pooled embedding [B, D] of a backbone; of a network of images and texts, that of the image, projected."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        setattr(self, NAMED_AFTER, type(network).__name__)
        self.of_pairs = hasattr(network, "get_image_features")
        if self.of_pairs and hasattr(network, "text_model"):
            network.text_model = nn.Identity()  # nobody asks it

    def forward(self, images: torch.Tensor) -> Any:
        network: Any = self.network
        if self.of_pairs:
            return network.get_image_features(pixel_values=images)
        found = network(images)
        if getattr(found, "pooler_output", None) is None and getattr(found, "last_hidden_state", None) is not None:
            return found.last_hidden_state[:, 0]
        return found


def _allow_other_sizes(network: nn.Module) -> None:
    """Have position embeddings resized where a network does so if it is asked to."""
    if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
        network.register_forward_pre_hook(_interpolating, with_kwargs=True)


def _interpolating(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, {**kwargs, "interpolate_pos_encoding": True}


def transformers_library(where: str, extra: str = "transformers") -> Any:
    """The package transformers, which is imported first here.

    Args:
        where: the network was named, for messages.
        extra: that brings it, which the message names.

    Raises:
        ConfigError: it is not installed.
    """
    with needing("transformers", extra, where):
        import transformers
    return transformers


def _is_local(location: str, where: str) -> bool:
    """Whether a location is a folder of this machine; if not, it is a name of the hub.

    Raises:
        ConfigError: it is neither, or a folder that transformers did not write.
    """
    path = Path(location)
    if path.is_dir():
        if CONFIG not in {each.name for each in path.iterdir()}:
            raise ConfigError(
                "a folder has no description of a network of transformers",
                where=where,
                found=f"no {CONFIG} in it",
                fix="name the folder that save_pretrained wrote; files of other libraries are named by checkpoint (of "
                "evaluate: model)",
            )
        return True
    if _REPOSITORY.fullmatch(location) is None:
        raise ConfigError(
            "there is no such folder, and the hub has no such names",
            where=where,
            expected="a folder on this machine that save_pretrained wrote, or OWNER/NAME of the hub",
            fix="correct the path or the name",
        )
    return False


def _class_names(config: Any, num_classes: int, who: str) -> tuple[str, ...] | None:
    """The classes by name in the order of their numbers; None where nobody named them, or two have one name."""
    labels = {int(number): " ".join(str(label).split()) for number, label in config.id2label.items()}
    names = [labels.get(number) for number in range(num_classes)]
    if all(name is not None and _PLACEHOLDER.fullmatch(name) for name in names):
        return None
    return distinct_names(names, num_classes, f"{who}: its {ID2LABEL}")


@contextmanager
def _reading(where: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub, and a stranger's files, raise errors of many libraries
        raise ConfigError(
            f"transformers cannot open {what}",
            where=where,
            found=printable(" ".join(str(error).split())[:300]) or type(error).__name__,
            expected="a folder that save_pretrained wrote, or a name of the hub, of a network whose code transformers "
            "itself has",
            fix="check the path or the name, the connection to the hub and its cache (HF_HOME); open a network with "
            "code of its own in a function of yours (call)",
        ) from error
