"""Weights of another resolution or head are loaded as published."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from timm.layers import resize_rel_pos_bias_table_levit
from torch import nn
from torch.nn import functional as F

from tests.models.networks import TINY, tiny
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.data.labels.class_list import class_map, load_class_list
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.head import remap_rows, select_columns
from tinyvit_kd.models.load_weights import InitialWeights, head_names, load_into, resize_attention_biases


def test_attention_biases_are_resized_as_published_and_not_as_in_timm() -> None:
    biases = torch.randn(3, 49)
    resized = resize_attention_biases(biases, 144)
    published = F.interpolate(biases.view(1, 3, 7, 7), size=(12, 12), mode="bicubic").view(3, 144)
    assert torch.equal(resized, published)
    timms = resize_rel_pos_bias_table_levit(biases.T, (144, 3)).T
    assert (resized - timms).abs().max() > 0.05


def test_a_student_at_a_higher_resolution_differs_only_in_its_attention_biases() -> None:
    low = tiny().state_dict()
    widths = TINY.model_copy(update={"window_sizes": (8, 8, 8, 4)})
    high = build_network(ModelSpec(tiny_vit=widths), 5, 64)
    load_into(high, InitialWeights(low), "here")
    for name, value in high.state_dict().items():
        if name.endswith("attention_biases"):
            assert torch.equal(value, resize_attention_biases(low[name], value.shape[1]))
        else:
            assert torch.equal(value, low[name])


def test_weights_of_windowed_networks_are_resized_too() -> None:
    kwargs = {"depths": (1, 1, 1, 1), "embed_dim": 12, "num_classes": 4, "window_size": 4}
    state = timm.create_model("swin_tiny_patch4_window7_224", img_size=128, **kwargs).state_dict()
    network = timm.create_model("swin_tiny_patch4_window7_224", img_size=64, **kwargs)
    load_into(network, InitialWeights(state, exact_head=True), "here")


def test_the_22k_head_becomes_the_1k_head_by_wordnet_id() -> None:
    mapping = class_map(load_class_list("imagenet22k"), load_class_list("imagenet"))
    assert np.flatnonzero(mapping == -1).tolist() == [850]
    rows = torch.randn(21841, 3)
    remapped = remap_rows(rows, mapping)
    known = [index for index in range(1000) if index != 850]
    assert torch.equal(remapped[known], rows[mapping[known]])
    torch.testing.assert_close(remapped[850], remapped[known].mean(dim=0))


def test_columns_of_22k_logits_are_selected_and_a_missing_class_is_zero() -> None:
    mapping = class_map(load_class_list("imagenet22k"), load_class_list("imagenet"))
    logits = torch.randn(2, 21841)
    selected = select_columns(logits, mapping)
    assert selected.shape == (2, 1000)
    assert torch.equal(selected[:, 850], torch.zeros(2))
    assert torch.equal(selected[:, :850], logits[:, mapping[:850]])


def test_a_remapped_student_gives_the_old_logits_of_its_classes() -> None:
    old, new = tiny(6), build_network(ModelSpec(tiny_vit=TINY), 3, 32, seed=9).eval()
    mapping = np.array([4, 0, 4])
    load_into(new, InitialWeights(old.state_dict(), mapping, source_classes=6), "here")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(new(images), old(images)[:, mapping])


def head_of(network: nn.Module) -> torch.Tensor:
    return torch.cat([network.state_dict()[name].flatten() for name in head_names(network)])


def test_a_head_is_kept_if_it_fits_and_zero_if_it_does_not_or_is_to_be_fresh() -> None:
    state = tiny(6).state_dict()
    kept, other, fresh = (build_network(ModelSpec(tiny_vit=TINY), classes, 32, seed=9) for classes in (6, 3, 6))
    load_into(kept, InitialWeights(state), "here")
    load_into(other, InitialWeights(state), "here")
    load_into(fresh, InitialWeights(state, fresh_head=True), "here")
    assert torch.equal(head_of(kept), head_of(tiny(6)))
    assert not head_of(other).any()
    assert not head_of(fresh).any()


def test_a_fresh_head_needs_no_head_in_the_weights_and_half_a_head_is_none() -> None:
    state = {name: value for name, value in tiny().state_dict().items() if not name.startswith("head.fc")}
    load_into(tiny(), InitialWeights(state, fresh_head=True), "here")
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight is missing"):
        load_into(tiny(), InitialWeights({**state, "head.fc.bias": torch.zeros(5)}), "here")


def test_both_heads_of_a_distilled_student_are_remapped() -> None:
    spec = ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs={"depth": 1, "embed_dim": 12, "img_size": 32})
    old, new = build_network(spec, 4, 32), build_network(spec, 2, 32)
    load_into(new, InitialWeights(old.state_dict(), np.array([3, -1])), "here")
    for head in ("head", "head_dist"):
        assert torch.equal(new.state_dict()[f"{head}.weight"][0], old.state_dict()[f"{head}.weight"][3])


def test_both_22k_heads_of_a_distilled_student_become_1k_heads() -> None:
    spec = ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs={"depth": 1, "embed_dim": 12, "img_size": 32})
    old, new, fresh = (build_network(spec, classes, 32) for classes in (21841, 1000, 1000))
    mapping = class_map(load_class_list("imagenet22k"), load_class_list("imagenet"))
    load_into(new, InitialWeights(old.state_dict(), mapping, source_classes=21841), "here")
    load_into(fresh, InitialWeights(old.state_dict(), mapping, source_classes=21841, fresh_head=True), "here")
    for name in ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"):
        rows, found = old.state_dict()[name], new.state_dict()[name]
        assert torch.equal(found[mapping >= 0], rows[mapping[mapping >= 0]])
        torch.testing.assert_close(found[850], rows[mapping[mapping >= 0]].mean(dim=0))
        assert not fresh.state_dict()[name].any()


def test_a_head_of_another_size_can_be_refused() -> None:
    with pytest.raises(CheckpointError, match=r"head\.fc\.weight is \[6, 40\], not \[3, 40\]"):
        load_into(tiny(3), InitialWeights(tiny(6).state_dict(), exact_head=True), "here")


@pytest.mark.parametrize(("mapping", "source_classes"), [([0, 5], 7), ([0, 5], 5), ([0, 6], None)])
def test_a_class_list_of_another_head_is_refused(mapping: list[int], source_classes: int | None) -> None:
    with pytest.raises(CheckpointError, match="the head to start from and its class list"):
        load_into(tiny(2), InitialWeights(tiny(6).state_dict(), np.array(mapping), source_classes), "here")


def test_weights_of_another_network_are_refused_naming_the_differences() -> None:
    widths = TINY.model_copy(update={"embed_dims": (16, 24, 32, 48)})
    before = tiny().state_dict()
    network = tiny()
    with pytest.raises(CheckpointError) as caught:
        load_into(network, InitialWeights(build_network(ModelSpec(tiny_vit=widths), 5, 32).state_dict()), "weights.pth")
    message = str(caught.value)
    assert "weights.pth" in message
    assert "is [48, 32, 1, 1], not [40, 32, 1, 1]" in message
    assert "more" in message
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
