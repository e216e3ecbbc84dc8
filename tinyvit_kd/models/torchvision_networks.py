"""torchvision's image classifiers by name, with its weights or those of a file, and what its weights say of input."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torchvision
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import NetworkSource
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.called import answered, settle
from tinyvit_kd.models.eval_views import known_views
from tinyvit_kd.models.head import head_modules
from tinyvit_kd.models.input_size import side_of
from tinyvit_kd.models.known_network import OpenedNetwork, after_the_recipe, classes_of, distinct_names, input_of
from tinyvit_kd.models.load_weights import InitialWeights, head_names, load_into
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard, load_model_file
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.wording import printable

CATEGORIES = "categories"  # torchvision's name of a class list
_CHOICE = "weights"  # the argument that chooses among a network's weights
_NAMES = "python -c 'import torchvision.models as m; print(m.list_models(module=m))'"


def open_torchvision(source: NetworkSource, section: str, embeddings: bool) -> OpenedNetwork:
    """A network of torchvision's with its weights, or with those of ``source.file``.

    Raises:
        ConfigError: torchvision knows no such network or weights, refuses the arguments, or cannot fetch.
        CheckpointError: the file is missing, damaged, or of another network.
    """
    known = known_torchvision(source, section, embeddings)
    if source.file is None:
        network = known.build(known.fetched())
    else:
        state, _ = load_model_file(model_path(source.file))
        network = replace(known, embeddings=False).shell()
        # A head that does not fit is a mistake: as zeros, which a student may start from, it would say nothing. But
        # one that is taken off may be missing in the file, or be one of other classes.
        fresh = embeddings and bool(head_names(network))
        load_into(network, InitialWeights(state, exact_head=not fresh, fresh_head=fresh), where=source.file)
        network = known.build(network) if embeddings else network
    size = classes_of(network) if embeddings else None
    return OpenedNetwork(network, known.card_of(network), known.who, embedding_size=size)


def known_torchvision(source: NetworkSource, section: str, embeddings: bool) -> TorchvisionNetwork:
    """What torchvision says of a network by its name.

    Raises:
        ConfigError: it knows no image classifier of this name, has no such weights, or does not say what input a
            network without weights takes.
    """
    assert source.torchvision is not None
    name, where = source.torchvision, f"{section}torchvision: {source.torchvision}"
    _require_known(name, where)
    weights = _weights(source, section)
    if source.pretrained and weights is None:
        raise ConfigError("torchvision has no weights of this network", where=where, fix="give a local file of weights")
    if source.pretrained and "num_classes" in source.kwargs:
        raise ConfigError(
            "the number of classes of pretrained weights is their own",
            where=f"{section}kwargs.num_classes",
            found=str(source.kwargs["num_classes"]),
            fix="leave it out",
        )
    preset = weights.transforms() if weights is not None else None
    said = {}
    if preset is not None:
        said = {"image_size": side_of(preset.crop_size * 2), "mean": tuple(preset.mean), "std": tuple(preset.std)}
    return TorchvisionNetwork(source, section, weights, preset, input_of(source, section, said, where), embeddings)


@dataclass(frozen=True)
class TorchvisionNetwork:
    """What is known of a network of torchvision's, without its weights.

    Attributes:
        source: what a recipe says of it.
        weights: the entry of torchvision's enum whose input it is taken to have; None where there is none.
        preset: how images are made for these weights.
        said: image_size, mean and std, after the recipe's word.
    """

    source: NetworkSource
    section: str
    weights: Any
    preset: Any
    said: dict[str, Any]
    embeddings: bool

    @property
    def where(self) -> str:
        """The field, for messages."""
        return f"{self.section}torchvision: {self.source.torchvision}"

    @property
    def who(self) -> str:
        """Who says what the recipe does not, for people."""
        return "torchvision" if self.weights is None else f"torchvision's {self.weights.name}"

    def shell(self) -> nn.Module:
        """The network with random weights."""
        return self.build(self._made(None))

    def fetched(self) -> nn.Module:
        """The network with torchvision's weights."""
        return self._made(self.weights)

    def build(self, network: nn.Module) -> nn.Module:
        """The network as it is used, of one as torchvision makes it: held to its classes, or without classifier."""
        size, classes = self.said["image_size"], self.source.num_classes
        if answered(network) is None:
            settle(network, size, classes, self.where)
        if not self.embeddings:
            return network
        heads = head_modules(network)
        if not heads:
            raise ConfigError(
                "the network has no classifier that could be taken off",
                where=self.where,
                found="its last operation has no weights",
                fix="name another network, or a function of your own (call) that returns embeddings",
            )
        for name in heads:
            network.set_submodule(name, nn.Identity())
        return settle(network, size, None, self.where, embeddings=True)

    def card_of(self, network: nn.Module) -> ModelCard:
        """The card of the network once it is built, after the recipe's word."""
        num_classes = 0 if self.embeddings else classes_of(network)
        names = None
        if self.weights is not None and len(self.weights.meta[CATEGORIES]) == num_classes:
            names = distinct_names(self.weights.meta[CATEGORIES], num_classes, f"{self.who}: its {CATEGORIES}")
        spec = ModelSpec(call=f"torchvision.models.{self.source.torchvision}", kwargs=self._arguments())
        card = ModelCard(
            architecture=spec.model_dump(mode="json"),
            num_classes=num_classes,
            class_name=CATEGORIES if names is not None else None,
            class_ids=names,
            **self.said,
            **({} if self.preset is None else self._views()),
        )
        return after_the_recipe(self.source, card)

    def _views(self) -> dict[str, Any]:
        crop, resized = side_of(self.preset.crop_size * 2), side_of(self.preset.resize_size * 2)
        views = {"crop_mode": "center", "crop_pct": fraction(crop, resized)}
        return known_views(views | {"interpolation": self.preset.interpolation.value}, self.who)

    def _made(self, weights: Any) -> nn.Module:
        arguments = self._arguments()
        if weights is None and self.source.num_classes is not None:
            arguments |= {"num_classes": self.source.num_classes}
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                network: nn.Module = torchvision.models.get_model(
                    self.source.torchvision, weights=weights, progress=False, **arguments
                )
        except Exception as error:  # what cannot be fetched raises errors of many libraries
            fix = f"correct or leave out the arguments of the network ({self.section}kwargs)" if arguments else ""
            if weights is not None:
                fix = fix or (
                    "check the connection and the folder of what was fetched (TORCH_HOME), or give a local file"
                )
            raise ConfigError(
                f"torchvision cannot create the network{' with its weights' if weights is not None else ''}",
                where=self.where,
                found=printable(first_line_of(error)),
                fix=fix,
            ) from error
        return network

    def _arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.source.kwargs.items() if name != _CHOICE}


def fraction(crop: int, resized: int) -> float:
    """``crop_pct`` of views of ``crop`` pixels from images whose shorter side is ``resized``, against rounding."""
    share = crop / resized
    return share if math.floor(crop / share) == resized else math.nextafter(share, 0)


def _require_known(name: str, where: str) -> None:
    classifiers = torchvision.models.list_models(module=torchvision.models)
    if name in classifiers:
        return
    is_other = name in torchvision.models.list_models()
    raise ConfigError(
        "torchvision has no such image classifier",
        where=where,
        found="a network for something else" if is_other else "no network of this name",
        expected=" or ".join(difflib.get_close_matches(name, classifiers, n=3)),
        fix=f"{_NAMES} lists the names",
    )


def _weights(source: NetworkSource, section: str) -> Any:
    """The entry of torchvision's enum that the recipe names, or the default one; None if there is none."""
    members: dict[str, Any] = torchvision.models.get_model_weights(source.torchvision).__members__
    chosen = source.kwargs.get(_CHOICE, "DEFAULT")
    if chosen in members or (_CHOICE not in source.kwargs):
        return members.get(str(chosen))
    raise ConfigError(
        "torchvision has no such weights of this network",
        where=f"{section}kwargs.{_CHOICE}",
        found=str(chosen),
        expected=" or ".join(members),
        fix="choose one of these, or leave it out for the newest",
    )
