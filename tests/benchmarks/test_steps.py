"""The benchmark of training steps in small: its order, its figures, and the official code's step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import timm
import torch

from benchmarks import steps
from benchmarks.contenders import BARE, OFFICIAL, OURS, THEIRS, TIMM, WHOLE, Steps
from benchmarks.flops import peak_flops, training_flops
from benchmarks.official import RECIPES, OfficialStep, dense_targets, settings
from benchmarks.steps import figures, in_order, summary, table_row
from tests.benchmarks.conftest import Result
from tinyvit_kd.training.batch import SparseTargets
from tinyvit_kd.training.loss import soft_loss

# A checkout in small, which has what is imported from the official one, as it has it.
NETWORK = """
    import torch
    from timm.models.layers import trunc_normal_
    from timm.models.registry import register_model
    from models.remap import shift

    class TinyViT(torch.nn.Sequential):
        def __init__(self, config):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(3 * config.DATA.IMG_SIZE**2, config.MODEL.NUM_CLASSES))
            trunc_normal_(self[1].weight, std=0.02)
            self.widths = config.MODEL.TINY_VIT.EMBED_DIMS

    def build_model(config):
        assert shift == 0 and config.TRAIN.LAYER_LR_DECAY == 1.0
        return TinyViT(config)

    @register_model
    def tiny_vit_5m_224(**kwargs):
        raise AssertionError("timm's own is not asked any more")
    """
OPTIMIZER = """
    from torch import optim
    from tinyvit_utils import name

    def build_optimizer(config, model):
        assert config.TRAIN.OPTIMIZER.NAME == name
        rates = {"lr": config.TRAIN.BASE_LR, "weight_decay": config.TRAIN.WEIGHT_DECAY}
        return optim.AdamW(model.parameters(), betas=config.TRAIN.OPTIMIZER.BETAS, **rates)
    """
SCALER = """
    import torch

    class NativeScalerWithGradNormCount:
        def __init__(self, grad_scaler_enabled):
            self.enabled = grad_scaler_enabled

        def __call__(self, loss, optimizer, clip_grad=None, parameters=None):
            loss.backward()
            self.norm = torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
            optimizer.step()
    """
RECIPE = """
    MODEL:
      DROP_PATH_RATE: 0.0
      TINY_VIT: {EMBED_DIMS: [8, 8, 8, 8], DEPTHS: [1, 1, 1, 1]}
    TRAIN: {BASE_LR: 2.5e-4, WEIGHT_DECAY: 0.01}
    """
CLASSES = 7
TARGETS = SparseTargets(
    torch.tensor([[0, 3], [2, 6]]), torch.tensor([[0.5, 0.25], [0.125, 0.75]]), torch.tensor([0.25, 0.125])
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    contents = {
        "models/__init__.py": NETWORK,
        "models/remap.py": "shift = 0",
        "optimizer.py": OPTIMIZER,
        "tinyvit_utils.py": "name = 'adamw'",
        "utils.py": SCALER,
        **{recipe: RECIPE.replace("2.5e-4", "0.00025") for recipe in RECIPES.values()},
    }
    for name, text in contents.items():
        path = tmp_path / "TinyViT" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return tmp_path / "TinyViT"


def official(checkout: Path) -> OfficialStep:
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return OfficialStep(checkout, "tiny_vit_5m_224", CLASSES, images, TARGETS, torch.tensor([1, 2]))


def test_the_official_step_is_imported_and_trains(checkout: Path) -> None:
    subject = official(checkout)
    first = subject.step()[0].item()
    for _ in range(3):
        subject.whole_step()
    assert subject.step()[0].item() < first
    group = subject.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (2.5e-4 * 2 / 512, 0.01, (0.9, 0.999))
    assert subject.model.widths == [8, 8, 8, 8]
    assert subject.scaler.enabled is False
    assert subject.scaler.norm > 0


def test_the_official_code_leaves_no_traces(checkout: Path) -> None:
    before = set(sys.modules), list(sys.path)
    official(checkout)
    assert list(sys.path) == before[1]
    assert not {"models", "models.remap", "optimizer", "utils", "tinyvit_utils"} & (set(sys.modules) - before[0])
    assert timm.create_model("tiny_vit_5m_224", num_classes=2).num_classes == 2


def test_official_targets_give_our_loss() -> None:
    logits = torch.randn(2, CLASSES, generator=torch.Generator().manual_seed(1))
    dense = dense_targets(TARGETS, CLASSES)
    assert dense[0].tolist() == pytest.approx([0.5, 0.05, 0.05, 0.25, 0.05, 0.05, 0.05])
    theirs = -(dense * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert soft_loss(logits, *TARGETS, torch.ones(2)).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_an_official_recipe_is_filled_with_what_its_code_takes_for_granted(checkout: Path) -> None:
    config = settings(checkout / RECIPES["tiny_vit_21m_224"], 1000, 224, 1024)
    assert config.TRAIN.BASE_LR == 5e-4
    assert (config.TRAIN.CLIP_GRAD, config.MODEL.TINY_VIT.MLP_RATIO, config.MODEL.NUM_CLASSES) == (5.0, 4.0, 1000)


def test_all_are_compared_and_who_fails_is_left_out(result: Result, tmp_path: Path) -> None:
    (tmp_path / "no checkout").mkdir()
    path = tmp_path / "steps.json"
    given = ["--device", "cpu", "--tiny", "--students", "tiny_vit_5m_224", "resnet10t", "--batches", "2"]
    steps.main([*given, "--peer", str(tmp_path / "no checkout"), "--results", str(path)])
    found = result()
    assert found == json.loads(path.read_text())
    assert list(found["failed"]) == ["tiny_vit_5m_224, batch 2, eager: official"]
    rows = found["cases"]
    assert set(rows) == {"tiny_vit_5m_224, batch 2, eager", "resnet10t, batch 2, eager"}
    for row in rows.values():
        assert set(row["images_per_second"]) == {OURS, BARE, TIMM}
        assert set(row["seconds_until_warm"]) == {"ours", "timm"}
        assert row["over_bare_step"] == pytest.approx(row["seconds"][BARE][0] / row["seconds"][OURS][0], abs=1e-4)
    assert found["least_over_timm"] == min(row["over_timm"] for row in rows.values())


def test_a_compiled_row_is_kept_before_the_network_of_timm_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed() -> Steps:
        raise KeyboardInterrupt

    made = {"ours": lambda: {OURS: lambda: None, BARE: lambda: None}, THEIRS: killed}
    monkeypatch.setattr(steps, "contenders", lambda *_: made)
    path = tmp_path / "steps.json"
    given = ["--device", "cpu", "--tiny", "--students", "resnet10t", "--batches", "2", "--modes", "compiled"]
    with pytest.raises(KeyboardInterrupt):
        steps.main([*given, "--rounds", "2", "--results", str(path)])
    row = json.loads(path.read_text())["cases"]["resnet10t, batch 2, compiled"]
    assert (set(row["images_per_second"]), row["rounds"], len(row["seconds"][OURS])) == ({OURS, BARE}, 1, 1)


def test_what_is_worth_most_comes_first() -> None:
    names = [case.name for case in in_order(["a", "b"], [256, 512], ["eager", "compiled", "planar"])]
    assert names[0] == "a, batch 256, eager"
    assert set(names[1:4]) == {"a, batch 256, compiled", "a, batch 512, eager", "b, batch 256, eager"}
    assert names[7] == "b, batch 512, compiled"
    assert all("planar" in name for name in names[8:])


def test_figures_are_medians_and_ratios_those_of_rounds() -> None:
    found = figures(
        size=100,
        found={OURS: [0.1, 0.2, 0.4], BARE: [0.1, 0.1, 0.4], OFFICIAL: [0.3, 0.4, 0.8], WHOLE: [0.4, 0.8, 1.6]},
        peaks={OURS: 1000.4, BARE: None},
        flops=2e9,
        peak=1e13,
    )
    assert found["images_per_second"] == {OURS: 500.0, BARE: 1000.0, OFFICIAL: 250.0, WHOLE: 125.0}
    assert found["mfu"] == {OURS: 0.1, BARE: 0.2, OFFICIAL: 0.05, WHOLE: 0.025}
    assert (found["over_bare_step"], found["over_official"], found["over_official_loop"]) == (1.0, 2.0, 4.0)
    assert "over_timm" not in found
    assert found["peak_mib"] == {OURS: 1000, BARE: None}
    told = summary({"row": found | {"seconds_until_warm": {"ours": 60.5, "timm": 40.0}}})
    assert told["seconds_until_warm"] == {"row": 60.5}
    assert (told["least_over_official"], told["least_over_timm"], told["mfu"]) == (2.0, None, {"row": 0.1})
    line = table_row("row", found)
    assert line == "| row | 500.0 | 1000 | 10.0% | 1.00 | 250.0 | – | 2.00 | 4.00 | – | – | – |"


def test_operations_of_an_image() -> None:
    # 4 stages at 224 pixels: published as 1.3 billion multiplications with their additions (arXiv 2207.10666, table 1).
    assert training_flops("tiny_vit_5m_224", 1000, 224) / 6 == pytest.approx(1.255e9, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla T4", None),
    ],
)
def test_the_most_that_a_device_can_do(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
