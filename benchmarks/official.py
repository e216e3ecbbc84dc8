"""The training step of the official TinyViT code, out of a checkout of github.com/microsoft/Cream.

Its network (``models/tiny_vit.py``), optimiser (``optimizer.py``) and scaler of the loss (``utils.py``) are imported
from the checkout as they are; widths and rates are those of its recipes ``configs/22k_distill``. What ``main.py`` does
in a step is done in the same order: float16 autocast, targets of all C classes, gradients scaled and clipped.

The code is of timm 0.4: names that timm has moved since then are lent to it while it is imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import timm.layers
import torch
import yaml
from timm.loss import SoftTargetCrossEntropy
from timm.utils import accuracy
from torch import nn

from tinyvit_kd.training.batch import SparseTargets

RECIPES = {
    f"tiny_vit_{size}_224": f"configs/22k_distill/tiny_vit_{size}_22k_distill.yaml" for size in ("5m", "11m", "21m")
}
OWN = ("models", "optimizer", "utils", "tinyvit_utils")  # names of the checkout's, so general that others may have them
# What config.py has where recipes say nothing.
SETTINGS: dict[str, dict[str, Any]] = {
    "MODEL": {"DROP_RATE": 0.0, "DROP_PATH_RATE": 0.1},
    "TRAIN": {"CLIP_GRAD": 5.0, "USE_CHECKPOINT": False, "LAYER_LR_DECAY": 1.0},
    "TINY_VIT": {"IN_CHANS": 3, "MLP_RATIO": 4.0, "MBCONV_EXPAND_RATIO": 4.0, "LOCAL_CONV_SIZE": 3},
    "OPTIMIZER": {"NAME": "adamw", "EPS": 1e-8, "BETAS": (0.9, 0.999), "MOMENTUM": 0.9},
}


class OfficialStep:
    """A student of the official code, and its step.

    Args:
        checkout: the folder TinyViT of the repository.
        student: timm's name of one of ``RECIPES``.
        images: what its loader gives to the step: normalised, float32 [B, 3, S, S].
        targets: the teacher's, K of a view.
        labels: int64 [B], which its meters compare outputs with.
    """

    def __init__(
        self,
        checkout: Path,
        student: str,
        num_classes: int,
        images: torch.Tensor,
        targets: SparseTargets,
        labels: torch.Tensor,
    ) -> None:
        batch, _, _, size = images.shape
        self.images, self.targets, self.labels, self.num_classes = images, targets, labels, num_classes
        config = settings(checkout / RECIPES[student], num_classes, size, batch)
        self.clip_grad = config.TRAIN.CLIP_GRAD
        self.amp = images.is_cuda  # main.py turns it off with --only-cpu
        with lent_names(), imported(checkout) as module:
            self.model: nn.Module = module("models").build_model(config).to(images.device).train()
            self.optimizer: torch.optim.Optimizer = module("optimizer").build_optimizer(config, self.model)
            self.scaler = module("utils").NativeScalerWithGradNormCount(grad_scaler_enabled=self.amp)
        self.criterion = SoftTargetCrossEntropy()

    def step(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Forward, loss, backward, clipping, optimiser step; returns the loss, outputs and the teacher's targets."""
        with torch.autocast(self.images.device.type, dtype=torch.float16, enabled=self.amp):
            outputs = self.model(self.images)
        teacher = dense_targets(self.targets, self.num_classes)
        loss = self.criterion(outputs, teacher)
        self.scaler(loss, self.optimizer, clip_grad=self.clip_grad, parameters=self.model.parameters())
        self.optimizer.zero_grad()
        return loss, outputs, teacher

    def whole_step(self) -> None:
        """The same with what its loop does in every step besides: four accuracies and the loss, brought to the host."""
        loss, outputs, teacher = self.step()
        for answers in (outputs, teacher):
            for share in accuracy(answers, self.labels, topk=(1, 5)):
                share.item()
        if self.images.is_cuda:
            torch.cuda.synchronize()
        loss.item()


def dense_targets(targets: SparseTargets, num_classes: int) -> torch.Tensor:
    """The teacher's distribution over all classes, [B, C], as ``main.py`` recovers it."""
    rest = (1.0 - targets.probs.sum(-1, keepdim=True)) / (num_classes - targets.probs.shape[1])
    return rest.repeat_interleave(num_classes, dim=-1).scatter_(-1, targets.indices, targets.probs)


def settings(recipe: Path, num_classes: int, size: int, batch: int) -> SimpleNamespace:
    """What the official code reads of its configuration to build a network and an optimiser."""
    told = yaml.safe_load(recipe.read_text())
    model, train = {**SETTINGS["MODEL"], **told["MODEL"]}, {**SETTINGS["TRAIN"], **told["TRAIN"]}
    train["BASE_LR"] *= batch / 512
    widths = SimpleNamespace(**SETTINGS["TINY_VIT"] | model.pop("TINY_VIT"))
    optimizer = SimpleNamespace(**SETTINGS["OPTIMIZER"])
    return SimpleNamespace(
        DATA=SimpleNamespace(IMG_SIZE=size),
        MODEL=SimpleNamespace(**model | {"NUM_CLASSES": num_classes, "TINY_VIT": widths}),
        TRAIN=SimpleNamespace(**train | {"OPTIMIZER": optimizer}),
    )


@contextmanager
def imported(checkout: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports modules of the checkout under their own names; behind it, those names are whose they were before."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OWN}
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(checkout))
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def lent_names() -> Iterator[None]:
    """timm's names of old. Its registry is kept from the official networks, which would take the place of timm's."""
    registry, layers = ModuleType("timm.models.registry"), ModuleType("timm.models.layers")
    registry.__dict__["register_model"] = lambda function: function
    layers.__dict__.update({name: getattr(timm.layers, name) for name in timm.layers.__dict__ if name[0] != "_"})
    lent = {module.__name__: module for module in (registry, layers)}
    before = {name: sys.modules.get(name) for name in lent}
    sys.modules.update(lent)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
