"""Checkpoints as other training codes write them, made on the spot; classes of absent packages are pickled by name."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

StateDict = dict[str, torch.Tensor]
Make = Callable[[StateDict], Any]


class CfgNode(dict[str, Any]):
    """As yacs': a dict with attributes."""

    def __init__(self, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.__dict__ |= {"__immutable__": True, "__deprecated_keys__": set(), "__new_allowed__": False}


class AttributeDict(dict[str, Any]):
    """As Lightning's."""


class DictConfig:
    """As OmegaConf's: an object with a state, and flags that nobody reads here."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.__dict__ |= {"_content": content, "_flags_cache": None, "_parent": None, "_metadata": Any}


class ModelCheckpoint:
    """As Lightning's, whose older checkpoints have classes for keys."""


HOMES = {
    CfgNode: "yacs.config",
    AttributeDict: "pytorch_lightning.utilities.parsing",
    DictConfig: "omegaconf.dictconfig",
    ModelCheckpoint: "pytorch_lightning.callbacks.model_checkpoint",
}


@contextmanager
def _at_home() -> Iterator[None]:
    """The classes above, in the packages whose names they are pickled with."""
    before = {kind: kind.__module__ for kind in HOMES}
    packages = {".".join(name.split(".")[:length]) for name in HOMES.values() for length in range(1, 5)}
    added = [name for name in packages if name not in sys.modules]
    sys.modules |= {name: ModuleType(name) for name in added}
    for kind, name in HOMES.items():
        setattr(sys.modules[name], kind.__name__, kind)
        kind.__module__ = name
    try:
        yield
    finally:
        for kind, name in before.items():
            kind.__module__ = name
        for name in added:
            del sys.modules[name]


def write(file: Path, content: Any) -> Path:
    """Save what a training code would."""
    with _at_home():
        torch.save(content, file)
    return file


def prefixed(prefix: str, state: StateDict) -> StateDict:
    """The weights within a larger module."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def zeros(state: StateDict) -> StateDict:
    """The same names without their values: of a network that must not be taken."""
    return {name: torch.zeros_like(value) for name, value in state.items()}


def official(state: StateDict) -> Any:
    """TinyViT's main.py."""
    config = CfgNode({"MODEL": CfgNode({"NAME": "tiny_vit", "SIZES": [1, 2]}), "AMP": True})
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    counts = {"max_accuracy": np.float64(81.2), "epoch": 3}
    return {"model": state, "optimizer": optimizer, "lr_scheduler": {"base_values": [0.1]}, "config": config, **counts}


def timm_train(state: StateDict) -> Any:
    """timm's train.py, with an average."""
    args = argparse.Namespace(
        lr=0.1, output=pathlib.PurePosixPath("/out"), begin=datetime.datetime(2026, 1, 1), best=np.arange(3)
    )
    history = collections.defaultdict(list, {"top1": [1.0]})
    recent = collections.deque([1, 2], maxlen=3)
    averaged = {"state_dict": prefixed("module", zeros(state)), "state_dict_ema": prefixed("module", state)}
    return {"arch": "x", **averaged, "args": args, "history": history, "recent": recent, "metric": np.float32(1)}


def lightning(state: StateDict) -> Any:
    """A LightningModule with its network in ``model``, compiled, and a loss with a parameter."""
    weights = collections.OrderedDict(prefixed("model._orig_mod", state) | {"criterion.weight": torch.ones(3)})
    hyper = AttributeDict({"cfg": DictConfig({"depth": 3}), "folder": pathlib.PurePosixPath("/data")})
    return {"state_dict": weights, "hyper_parameters": hyper, "callbacks": {ModelCheckpoint: {"best": torch.ones(1)}}}


def lightning_average(state: StateDict) -> Any:
    """A LightningModule with an average beside its network, the larger teacher that it had, and metrics."""
    larger = {f"teacher.{name}": torch.zeros(value.numel() + 1) for name, value in state.items()}
    return {"state_dict": prefixed("net", zeros(state)) | prefixed("ema_model.module", state) | larger}


def dino(state: StateDict) -> Any:
    """DINO's main_dino.py: two backbones, each with a projection head that is no classifier."""
    head = {"head.mlp.0.weight": torch.ones(3, 3), "head.last_layer.weight_g": torch.ones(3, 1)}
    teacher = prefixed("backbone", state) | head
    student = prefixed("module", prefixed("backbone", zeros(state)) | head)
    return {"student": student, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(arch="x")}


def twice_nested(state: StateDict) -> Any:
    """Entries in an entry, wrappers in a wrapper."""
    return {"model": {"state_dict": prefixed("module._orig_mod.module", state)}, "epoch": 3}


def averaged(state: StateDict) -> Any:
    """torch's AveragedModel, which counts."""
    return {"n_averaged": torch.tensor(7), **prefixed("module", state)}


def own_name(state: StateDict) -> Any:
    """A module that calls its network by a name of its own."""
    return {"state_dict": prefixed("my_vision_tower", state) | {"text.weight": torch.ones(2)}}


WHOLE: dict[str, tuple[Make, str]] = {
    "bare": (lambda state: state, ""),
    "MAE, BEiT, DeiT": (lambda state: {"model": state}, "took model"),
    "official TinyViT": (official, "took model"),
    "timm's train.py": (timm_train, "took state_dict_ema (the file also has state_dict), stripped 'module.'"),
    "Lightning": (lightning, "took state_dict, stripped '_orig_mod.'\nstripped 'model.', left out criterion.weight"),
    "Lightning with an average": (
        lightning_average,
        "took state_dict\nstripped 'ema_model.module.', left out 164 tensors of 'net', 164 tensors of 'teacher'",
    ),
    "twice nested": (twice_nested, "took model.state_dict, stripped '_orig_mod.', 'module.'"),
    "an AveragedModel": (averaged, "stripped 'module.', left out n_averaged"),
    "another name": (own_name, "took state_dict\nstripped 'my_vision_tower.', left out text.weight"),
}
"""Checkpoints with all weights of a network, and what is told of them, the beginnings of lines."""
