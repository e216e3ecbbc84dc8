"""timm's optimisers by name, with the settings that they take."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

import torch
from timm.optim import OptimInfo, create_optimizer_v2, get_optimizer_info, list_optimizers

from tinyvit_kd.config.optim import ADAMW, OptimConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.foreign_errors import first_line_of

_OWN_FIELDS = {"params": "", "lr": "base_lr", **{each: each for each in ("weight_decay", "betas", "eps", "momentum")}}
_MOMENTUM = 0.9  # timm's, where an optimiser's own default is none
_CLOSE = 3  # names in an error's text
_REFUSALS = (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, LookupError)  # of optimisers


def require_optimizer(config: OptimConfig) -> None:
    """Check that there is such an optimiser, that it can be resumed exactly, and that it takes its settings.

    Raises:
        ConfigError: timm knows none of this name; it needs second derivatives, another package or a generator of its
            own; or it does not take a setting.
    """
    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones_like(weight)
    optimizer = timm_optimizer([{"params": [weight]}], config, config.base_lr)
    try:
        optimizer.step()
    except _REFUSALS as error:  # some settings are looked at in the first step
        raise _unfit(config, error) from error


def timm_optimizer(groups: list[dict[str, Any]], config: OptimConfig, rate: float) -> torch.optim.Optimizer:
    """The optimiser over groups of parameters; AdamW with the fused kernel.

    Args:
        groups: as ``optim.parameter_groups`` makes them.
        rate: peak learning rate.

    Raises:
        ConfigError: see ``require_optimizer``.
    """
    arguments = _arguments(_known(config.name), config)
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            groups, config.name, lr=rate, weight_decay=config.weight_decay, **arguments
        )
        return optimizer
    except _REFUSALS as error:
        raise _unfit(config, error) from error


def _unfit(config: OptimConfig, error: Exception) -> ConfigError:
    given = {"betas": config.betas, "eps": config.eps, "momentum": config.momentum, **config.kwargs}
    said = ", ".join(f"{name}: {value}" for name, value in given.items() if value is not None)
    return ConfigError(
        "the optimiser cannot be made with these settings",
        where=f"optim.name: {config.name}",
        found=f"{said}: {first_line_of(error)}" if said else first_line_of(error),
        fix="correct or leave out optim.kwargs, betas, eps and momentum",
    )


def takes_fallback(name: str) -> bool:
    """Whether an optimiser treats tensors by their shape, and can be told of groups that AdamW should update."""
    return getattr(_known(name).opt_class, "__name__", "") == "Muon"


def usable_optimizers() -> list[str]:
    """Names of the optimisers that can train a student."""
    return [each for each in list_optimizers() if _reason_against(get_optimizer_info(each)) is None]


def _known(name: str) -> OptimInfo:
    info = get_optimizer_info(name) if name in list_optimizers() else None
    reason = "timm knows no optimiser of this name" if info is None else _reason_against(info)
    if info is not None and reason is None:
        return info
    close = difflib.get_close_matches(name, usable_optimizers(), n=_CLOSE)
    raise ConfigError(
        "this optimiser cannot train a student",
        where=f"optim.name: {name}",
        found=str(reason),
        expected=" or ".join(close if close else [ADAMW, "sgd", "lamb", "lion"]),
        fix="python -c 'import timm.optim; print(timm.optim.list_optimizers())' lists timm's names, of which those "
        "can be used that need neither second derivatives nor another package",
    )


def _reason_against(info: OptimInfo) -> str | None:
    """Why an optimiser cannot be used; None if it can."""
    if isinstance(info.opt_class, str):
        return f"its code is in another package, {info.opt_class.partition('.')[0]}, and not in timm or torch"
    if info.second_order:
        return "it needs second derivatives of the loss, which a training step does not compute"
    if info.opt_class.__name__ == "Kron":
        return "it draws random numbers from a generator of its own, which not all timm versions keep in checkpoints"
    return None


def _arguments(info: OptimInfo, config: OptimConfig) -> dict[str, Any]:
    """What the optimiser is given besides groups, rate and weight decay; what it would not take is refused."""
    taken = inspect.signature(info.opt_class).parameters
    for name, has in {"betas": info.has_betas, "eps": info.has_eps, "momentum": info.has_momentum}.items():
        if getattr(config, name) is not None and not (has and name in taken):
            raise _refused(config, name, "optim.", f"{name}: {getattr(config, name)}", "leave it out")
    if config.betas is not None and len(config.betas) != info.num_betas:
        number = f"{info.num_betas} numbers"
        raise _refused(config, "so many betas", "optim.betas", f"{len(config.betas)}", f"give {number}, or none")
    for name in config.kwargs:
        if name in _OWN_FIELDS:
            fix = f"set optim.{_OWN_FIELDS[name]}" if _OWN_FIELDS[name] else "leave it out"
            raise _refused(config, f"{name} from kwargs", "optim.kwargs.", name, fix)
        if name not in taken:
            others = [each for each in taken if each not in _OWN_FIELDS]
            close = difflib.get_close_matches(name, others, n=1)
            raise _refused(config, name, "optim.kwargs.", name, f"it takes {', '.join(others)}", " or ".join(close))
    given = {name: getattr(config, name) for name in ("betas", "eps", "momentum")}
    arguments = {name: value for name, value in given.items() if value is not None} | config.kwargs
    if info.has_momentum:
        arguments.setdefault("momentum", taken["momentum"].default or _MOMENTUM)
    if config.name == ADAMW and not {"foreach", "fused"} & arguments.keys():
        arguments["fused"] = True
    return arguments


def _refused(config: OptimConfig, what: str, where: str, found: str, fix: str, expected: str = "") -> ConfigError:
    return ConfigError(
        f"the optimiser does not take {what}",
        where=f"{where.rstrip('.')}, with optim.name: {config.name}",
        found=found,
        expected=expected,
        fix=fix,
    )
