"""Students: a network, and where its first weights come from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.families import build_network, named_by_timm
from tinyvit_kd.models.input_size import require_size
from tinyvit_kd.models.known_network import require_trusted
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.open_network import open_network
from tinyvit_kd.models.several_sizes import build_for_sizes
from tinyvit_kd.runtime.foreign_errors import refuses_checkpointing


def student_spec(config: StudentConfig, card: ModelCard | None) -> ModelSpec:
    """The architecture: the recipe's, else that of the file to start from.

    Raises:
        CheckpointError: neither says, or the file names code that the recipe does not.
        ConfigError: the recipe names a description that cannot be read.
    """
    if config.given and (config.call is None or card is None or card.spec.call != config.call):
        return named_by_timm(ModelSpec.model_validate(config.model_dump(include=set(ModelSpec.model_fields))))
    if card is None:
        raise CheckpointError(
            "the file to start from does not say which network it holds",
            where=str(config.init_from),
            fix="name the network: student.name, student.tiny_vit or student.call",
        )
    if config.call is None:
        require_trusted(card, str(config.origin), "student.")
    drop_path_rate = card.spec.drop_path_rate if config.drop_path_rate is None else config.drop_path_rate
    return card.spec_with(config.kwargs).model_copy(update={"drop_path_rate": drop_path_rate})


def build_student(
    config: StudentConfig,
    spec: ModelSpec,
    num_classes: int,
    image_size: int,
    seed: int,
    initial: InitialWeights | None,
) -> nn.Module:
    """A student with weights from ``initial``, or random ones that follow from ``seed``.

    Args:
        image_size: side of the views, pixels; what the network is built for is the recipe's last size.

    Raises:
        ConfigError: the network cannot be built, is of another size than its images, or does not take all of the
            recipe's sizes.
        CheckpointError: the weights belong to another network.
    """
    sizes = config.sizes_by_epoch(image_size).values()
    require_size(spec.kwargs, max(sizes), "student.kwargs.img_size")
    if config.image_size is None:
        network = build_network(spec, num_classes, image_size, seed)
    else:
        network = build_for_sizes(spec, num_classes, sizes, seed)
    if initial is not None:
        load_into(network, initial, where=str(config.origin))
    if config.grad_checkpointing:
        _checkpoint_gradients(network)
    return network


def open_model(path: str | Path, call: str | None = None) -> tuple[nn.Module, ModelCard]:
    """A network with the weights of a model file that says what it is.

    Args:
        path: path or URL of a run folder, a folder of timm's, or a ``model.safetensors`` that a stage wrote.
        call: the dotted name of the function that makes the network, where the file names one.

    Raises:
        CheckpointError: the file is missing, damaged, does not say which network it holds, or names another function
            than ``call``.
    """
    return open_network(ModelSource(model=str(path), call=call))


def train_both_heads(network: nn.Module) -> None:
    """Let a network with a distillation token give the logits of both heads while it trains, not their mean.

    Raises:
        ConfigError: it has no such token.
    """
    if not hasattr(network, "set_distilled_training"):
        raise ConfigError(
            "this network has no distillation token",
            where="loss.kind: token",
            found=type(network).__name__,
            expected="a network with two heads, such as deit_small_distilled_patch16_224",
            fix="set student.name to such a one, or loss.kind to hard or soft",
        )
    network.set_distilled_training(True)  # type: ignore[operator]


def _checkpoint_gradients(network: nn.Module) -> None:
    if not hasattr(network, "set_grad_checkpointing"):
        raise _no_checkpointing(network)
    try:
        network.set_grad_checkpointing(True)  # type: ignore[operator]
    except AssertionError as error:
        if not refuses_checkpointing(error):
            raise
        raise _no_checkpointing(network) from error


def _no_checkpointing(network: nn.Module) -> ConfigError:
    return ConfigError(
        "this network cannot recompute its activations",
        where="student.grad_checkpointing",
        found=type(network).__name__,
        fix="set it to false",
    )
