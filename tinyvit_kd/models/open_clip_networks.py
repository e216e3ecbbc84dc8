"""Networks of open_clip: the image tower with its projection, and the text tower."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.input_size import side_of
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import NetworkFacts
from tinyvit_kd.models.needed_library import needing
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.wording import printable

_SCHEMES = ("hf-hub:", "local-dir:")


class ImageTower(nn.Module):
    """The image tower of a CLIP, with its projection: images [B, 3, S, S] to embeddings [B, D] of the texts' space."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings, not normalised."""
        given = self.visual(images)
        embeddings: torch.Tensor = given[0] if isinstance(given, tuple) else given
        return embeddings


@dataclass(frozen=True)
class OpenClipImages:
    """The image tower of ``teacher.open_clip``, a ``Backbone``."""

    config: TeacherConfig

    def build(self) -> nn.Module:
        """The tower with random weights."""
        return ImageTower(self._create(load_weights=False).visual)

    def open(self, keeps_output: Callable[[nn.Module], bool]) -> nn.Module:
        """The tower with its weights; its projection is part of it."""
        del keeps_output
        return ImageTower(self._create(load_weights=True).visual)

    def facts_of(self, network: nn.Module) -> NetworkFacts:
        """What its own preprocessing says, after the recipe's word."""
        config, tower = self.config, network.visual
        own: Any = tower.preprocess_cfg  # type: ignore[union-attr]
        return NetworkFacts(
            num_classes=0,
            image_size=config.image_size or side_of(own["size"]),
            mean=config.mean or tuple(own["mean"]),
            std=config.std or tuple(own["std"]),
        )

    def _create(self, load_weights: bool) -> Any:
        config = self.config
        assert config.open_clip is not None
        weights = config.checkpoint if load_weights else None
        return create(config.open_clip, weights, "teacher.open_clip", load_weights, config.image_size)


def create(name: str, weights: str | None, where: str, load_weights: bool = True, image_size: int | None = None) -> Any:
    """A network of open_clip, both towers.

    Args:
        name: open_clip's, with the tag of its weights behind a colon if these are to be fetched; or hf-hub: or
            local-dir: and a location, which has weights of its own.
        weights: a path or URL of a file; None: those of ``name``.
        where: the field or option that names it, for messages.
        load_weights: False: random ones, and nothing is fetched but a description.
        image_size: side of the input, pixels; None: its own.

    Raises:
        ConfigError: open_clip is not installed, knows no such network, or cannot load its weights.
    """
    library = _library(where)
    _require_no_folder(library, name, where)
    architecture, tag = (name, None) if name.startswith(_SCHEMES) else (name.partition(":")[0], name.partition(":")[2])
    source = (str(model_path(weights)) if weights is not None else tag or None) if load_weights else None
    if load_weights and source is None and not name.startswith(_SCHEMES):
        raise ConfigError(
            "nothing says which weights the network has",
            where=f"{where}: {name}",
            expected=" or ".join(f"{architecture}:{each}" for each in _tags(library, architecture)[:3])
            or "a file of weights",
            fix="name a tag of open_clip's weights behind a colon, or give a file",
        )
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            return library.create_model(
                architecture,
                pretrained=source,
                load_weights=load_weights,
                require_pretrained=load_weights,
                pretrained_image=False,
                pretrained_text=False,
                force_image_size=image_size,
            )
    except Exception as error:  # the hub, and a stranger's files, raise errors of many libraries
        raise ConfigError(
            "open_clip cannot create the network",
            where=f"{where}: {name}",
            found=printable(first_line_of(error)[:300]),
            expected="a name that open_clip.list_models() has, or hf-hub: or local-dir: and where its description is",
            fix="correct the name or the file, or check the connection to the hub and its cache (HF_HOME)",
        ) from error


def text_embeddings(network: Any, name: str, texts: Sequence[str], where: str) -> torch.Tensor:
    """Embeddings of texts, float32 [len(texts), D], not normalised.

    Args:
        network: of ``create``.
        name: that it was created by, whose tokenizer it is.
        where: the option that names it, for messages.

    Raises:
        ConfigError: its tokenizer cannot be had.
    """
    library = _library(where)
    architecture = name if name.startswith(_SCHEMES) else name.partition(":")[0]
    try:
        with _quiet():
            tokens = library.get_tokenizer(architecture)(list(texts))
    except Exception as error:
        raise ConfigError(
            "the texts cannot be made tokens",
            where=f"{where}: {name}",
            found=printable(first_line_of(error)[:300]),
            fix="check the connection to the hub and its cache (HF_HOME), or put the tokenizer's files into the folder",
        ) from error
    with torch.no_grad():
        embeddings: torch.Tensor = network.eval().encode_text(tokens).float()
    return embeddings


def _require_no_folder(library: Any, name: str, where: str) -> None:
    folder = Path(name).expanduser()
    if name.startswith(_SCHEMES) or name in library.list_models() or not folder.is_dir():
        return
    raise ConfigError(
        "a folder of open_clip's is named with local-dir: before its path",
        where=f"{where}: {name}",
        found="the path of a folder",
        fix=f"write local-dir:{folder}",
    )


def _tags(library: Any, architecture: str) -> list[str]:
    return list(library.list_pretrained_tags_by_model(architecture))


def _library(where: str) -> Any:
    with needing("open_clip", "clip", where):
        import open_clip
    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its log lines: what matters of these is an error here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
