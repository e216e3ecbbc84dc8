"""A model file with what is known of its network: from its own card, or from ``config.json`` beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import ModelCard, StateDict, file_beside, load_model_file, read_card, weights_file
from tinyvit_kd.models.plain_card import require_fitting
from tinyvit_kd.models.pretrained import names_a_network
from tinyvit_kd.models.timm_config import TIMM_CONFIG
from tinyvit_kd.models.timm_folder import read_timm_config
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable

OWN_CARD = "the file's card"


@dataclass(frozen=True)
class FoundModel:
    """Weights, and what lies with them.

    Attributes:
        state: the tensors by name.
        card: what is said of the network; None if nothing is.
        known_from: where that stands, for people.
    """

    state: StateDict
    card: ModelCard | None
    known_from: str


def read_model(path: Path, name: str | None = None) -> FoundModel:
    """Read a model file, and what is known of its network.

    Args:
        path: of a run folder, a folder of timm's, or a file.
        name: the network that a recipe names; a ``config.json`` that describes another one is left out.

    Raises:
        CheckpointError: the file or its description is missing, damaged, or asks for more than a network.
    """
    if not path.exists() and names_a_network(str(path)):
        raise CheckpointError(
            "there is no such file or folder, but a network of that name",
            where=str(path),
            fix="to fetch timm's weights for it, leave the path out and set name to it and pretrained to true "
            "(predict: --pretrained)",
        )
    state, card = load_model_file(path)
    if card is not None:
        return FoundModel(state, card, OWN_CARD)
    described = _described(path, name)
    if described is None:
        return FoundModel(state, None, "")
    file = weights_file(path)
    shapes = [list(tensor.shape) for tensor in state.values()]
    require_fitting(described.spec, described.num_classes, shapes, str(file_beside(file, TIMM_CONFIG)))
    return FoundModel(state, described, TIMM_CONFIG)


def read_description(path: Path, name: str | None = None) -> ModelCard | None:
    """What is known of a model file's network, without reading the weights; None if nothing is.

    Arguments and errors are those of ``read_model``.
    """
    return read_card(path) or _described(path, name)


def _described(path: Path, name: str | None) -> ModelCard | None:
    """What ``config.json`` beside a file says, unless the recipe names another network."""
    file = weights_file(path)
    described = read_timm_config(file)
    if described is not None and name is not None and name.partition(".")[0] != described.spec.name:
        other = printable(str(described.spec.name))  # a stranger's
        note(f"{file}: {TIMM_CONFIG} beside it describes {other}, not {name}, and is not used")
        return None
    return described
