"""Teachers see views through their own normalisation and size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models._factory import parse_model_name
from timm.models._hub import save_for_hf
from torch import nn
from torch.nn import functional as F

from tests.models.networks import MEAN, STD, saved, tiny, views
from tests.models.test_official import random_clip
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import hash_weights
from tinyvit_kd.models.teacher import Teacher, TeacherFacts, build_teacher, topk_probs

CPU = torch.device("cpu")


def normalised(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def built(**fields: Any) -> Teacher:
    return build_teacher(TeacherConfig(**fields), CPU, "float32")


def test_a_student_becomes_a_teacher_from_its_run_folder(tmp_path: Path) -> None:
    network = saved(tmp_path, 4, class_name="four", class_ids=("a", "b", "c", "d"))
    teacher = built(checkpoint=tmp_path)
    facts = teacher.facts
    assert (facts.name, facts.num_classes, facts.image_size, facts.mean, facts.std) == ("TinyVit", 4, 32, MEAN, STD)
    assert (facts.class_name, facts.class_ids) == ("four", ("a", "b", "c", "d"))
    with torch.inference_mode():
        expected = network(normalised(views().float(), MEAN, STD))
        torch.testing.assert_close(teacher(views()), expected, rtol=1e-4, atol=1e-5)


def test_views_of_another_size_are_resized_before_they_are_normalised(tmp_path: Path) -> None:
    network = saved(tmp_path)
    teacher = built(checkpoint=tmp_path)
    large = views(size=48)
    resized = F.interpolate(large.float(), (32, 32), mode="bicubic", antialias=True).clamp(0, 255)
    with torch.inference_mode():
        torch.testing.assert_close(teacher(large), network(normalised(resized, MEAN, STD)), rtol=1e-4, atol=1e-5)


def test_the_recipes_normalisation_and_size_come_before_the_files(tmp_path: Path) -> None:
    saved(tmp_path)
    facts = built(checkpoint=tmp_path, mean=(0, 0, 0), std=(1, 1, 1), image_size=48).facts
    assert (facts.mean, facts.std, facts.image_size) == ((0, 0, 0), (1, 1, 1), 48)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_logits_are_float32_of_a_frozen_network_also_under_autocast(tmp_path: Path, precision: str) -> None:
    saved(tmp_path)
    exact = built(checkpoint=tmp_path)
    teacher = build_teacher(TeacherConfig(checkpoint=tmp_path), CPU, precision)
    logits = teacher(views())
    assert logits.dtype == torch.float32
    assert not logits.requires_grad
    assert not teacher.network.training
    assert 0 < (logits - exact(views())).abs().max() < 0.1


def divergence_from_float32(network: nn.Module, precision: str) -> float:
    """KL divergence between the answers in float32 and those in a precision, mean over views."""
    images = views(4, size=224)
    facts = TeacherFacts(name="", num_classes=1000, image_size=224, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    with torch.inference_mode():
        exact, found = (
            Teacher(network, facts, CPU, each)(images).log_softmax(dim=1) for each in ("float32", precision)
        )
    return F.kl_div(found, exact, reduction="batchmean", log_target=True).item()


def test_float16_is_nearer_to_float32_than_bfloat16_by_a_factor_of_fifty() -> None:
    """The official code runs teachers in float16; what bfloat16 loses is in what the students learn."""
    deit = build_network(ModelSpec(name="deit_tiny_patch16_224"), 1000, 224, seed=0)
    with torch.no_grad():
        deit.head.weight.mul_(15)  # type: ignore[union-attr, operator]  # as sure as a trained network
    half, brain = (divergence_from_float32(deit, each) for each in ("float16", "bfloat16"))
    assert half < 3e-5
    assert brain > 2e-4
    assert half < brain / 20


def test_distilled_heads_are_averaged(tmp_path: Path) -> None:
    kwargs = {"depth": 1, "embed_dim": 12, "img_size": 32}
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3, **kwargs).eval()
    torch.save(network.state_dict(), tmp_path / "deit.pth")
    name = "deit_tiny_distilled_patch16_224"
    teacher = built(name=name, checkpoint=tmp_path / "deit.pth", num_classes=3, kwargs=kwargs)
    assert teacher.facts.image_size == 32
    with torch.inference_mode():
        tokens = network.forward_features(normalised(views().float(), teacher.facts.mean, teacher.facts.std))
        expected = (network.head(tokens[:, 0]) + network.head_dist(tokens[:, 1])) / 2
        torch.testing.assert_close(teacher(views()), expected, rtol=1e-4, atol=1e-5)


def test_the_official_teacher_is_built_from_its_file_with_clips_normalisation(tmp_path: Path) -> None:
    official = random_clip(11)
    torch.save({"model": official.state_dict()}, tmp_path / "clip.pth")
    teacher = built(
        name="vit_large_patch14_clip_quickgelu_224",
        checkpoint=tmp_path / "clip.pth",
        num_classes=11,
        image_size=28,
        kwargs={"embed_dim": 128, "depth": 2, "num_heads": 2},
    )
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert (teacher.facts.mean, teacher.facts.std, teacher.facts.image_size) == (mean, std, 28)
    with torch.inference_mode():
        expected = official(normalised(views(size=28).float(), mean, std))
        torch.testing.assert_close(teacher(views(size=28)), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def hub_folder(tmp_path: Path) -> str:
    """What the hub would give, in a folder that timm reads the same way."""
    try:
        parse_model_name("local-dir:folder")
    except AssertionError:
        pytest.skip("this timm reads models from the hub alone")
    save_for_hf(timm.create_model("tiny_vit_5m_224", num_classes=3, depths=(1, 1, 1, 1)), tmp_path)
    return f"local-dir:{tmp_path}"


def test_pretrained_weights_come_through_timm(hub_folder: str) -> None:
    teacher = built(name=hub_folder, pretrained=True, kwargs={"depths": [1, 1, 1, 1]})
    assert teacher.facts.num_classes == 3
    assert teacher(views()).shape == (3, 3)


def test_a_pretrained_head_of_another_size_is_refused_instead_of_drawn_at_random(hub_folder: str) -> None:
    with pytest.raises(ConfigError, match="another number of classes") as caught:
        built(name=hub_folder, pretrained=True, num_classes=5, kwargs={"depths": [1, 1, 1, 1]})
    assert caught.value.expected == "3"


def test_a_name_without_pretrained_weights_is_a_mistake_of_the_recipe() -> None:
    for name in ("no_such_model", "coatnet_0_224"):
        with pytest.raises(ConfigError, match="pretrained weights"):
            built(name=name, pretrained=True)


def test_a_head_that_is_not_the_checkpoints_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight is \[4, 40\], not \[5, 40\]"):
        built(checkpoint=tmp_path, num_classes=5)


def test_a_checkpoint_that_does_not_say_what_it_is_needs_a_name(tmp_path: Path) -> None:
    torch.save(tiny().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"teacher\.name"):
        built(checkpoint=tmp_path / "weights.pth")


def test_building_a_teacher_leaves_the_generator_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path)
    before = torch.get_rng_state()
    built(checkpoint=tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_the_hash_of_weights_follows_every_bit_name_and_type() -> None:
    state = {"a": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    original = hash_weights(state)
    nudged = torch.nextafter(state["a"], torch.tensor(9.0))
    others = [
        {**state, "a": nudged},
        {**state, "count": torch.tensor(4)},
        {"b": state["a"], "count": state["count"]},
        {**state, "a": state["a"].double()},
        {**state, "a": state["a"].view(2, 1)},
        {"count": state["count"], "a": state["a"]},
    ]
    assert len(original) == 32
    assert original == hash_weights({name: value.clone() for name, value in state.items()})
    assert len({original, *map(hash_weights, others)}) == 7
    hash_weights({"half": torch.ones(3, dtype=torch.bfloat16), "none": torch.ones(0)})


def test_the_hash_is_the_same_from_file_and_from_memory(tmp_path: Path) -> None:
    network = saved(tmp_path)
    assert built(checkpoint=tmp_path).weights_hash == hash_weights(network.state_dict())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(1, 40), st.data())
def test_topk_keeps_the_largest_probabilities_by_ascending_class(batch: int, classes: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, classes))
    scale = data.draw(st.sampled_from([0.1, 1.0, 30.0]))
    logits = torch.randn(batch, classes, generator=torch.Generator().manual_seed(k)) * scale
    indices, probs, residual = topk_probs(logits, k)
    dense = logits.softmax(dim=1)
    assert (indices.dtype, probs.dtype, residual.dtype) == (torch.int64, torch.float32, torch.float32)
    assert bool((indices.diff(dim=1) > 0).all())
    assert torch.equal(probs, dense.gather(1, indices))
    left_out = dense.scatter(1, indices, 0.0)
    assert bool((left_out.max(dim=1).values <= probs.min(dim=1).values).all())
    torch.testing.assert_close(residual, left_out.sum(dim=1), rtol=0, atol=1e-6)
    assert bool((residual >= 0).all())


def test_topk_of_half_precision_logits_is_computed_in_float32() -> None:
    logits = torch.randn(2, 1000).half()
    assert torch.equal(topk_probs(logits, 10)[1], topk_probs(logits.float(), 10)[1])
