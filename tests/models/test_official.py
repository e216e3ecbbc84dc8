"""Official checkpoints are loaded by name; the official networks are written out here."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.models.networks import TINY, tiny
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.official import to_timm

StateDict = dict[str, torch.Tensor]


def conv_norm(prefix: str, out: int, inside: int, kernel: int) -> StateDict:
    """The tensors of the official Conv2d_BN."""
    norm = {f"{prefix}.bn.{name}": torch.rand(out) for name in ("weight", "bias", "running_mean", "running_var")}
    count = {f"{prefix}.bn.num_batches_tracked": torch.tensor(1)}
    return {f"{prefix}.c.weight": torch.randn(out, inside, kernel, kernel), **norm, **count}


def affine(prefix: str, *shape: int) -> StateDict:
    return {f"{prefix}.weight": torch.randn(*shape), f"{prefix}.bias": torch.randn(shape[0])}


def official_tiny_vit(num_classes: int) -> StateDict:
    """A state dict of the official TinyViT (TinyViT/models/tiny_vit.py) with TINY's widths."""
    dims = TINY.embed_dims
    state = conv_norm("patch_embed.seq.0", dims[0] // 2, 3, 3)
    state |= conv_norm("patch_embed.seq.2", dims[0], dims[0] // 2, 3)
    for stage, dim in enumerate(dims):
        for block in range(TINY.depths[stage]):
            prefix = f"layers.{stage}.blocks.{block}"
            state |= mbconv(prefix, dim) if stage == 0 else attention_block(prefix, dim, stage)
        if stage < 3:
            prefix, wider = f"layers.{stage}.downsample", dims[stage + 1]
            state |= conv_norm(f"{prefix}.conv1", wider, dim, 1)
            state |= conv_norm(f"{prefix}.conv2", wider, 1, 3) | conv_norm(f"{prefix}.conv3", wider, wider, 1)
    return state | affine("norm_head", dims[-1]) | affine("head", num_classes, dims[-1])


def mbconv(prefix: str, dim: int) -> StateDict:
    wide = conv_norm(f"{prefix}.conv1", 4 * dim, dim, 1) | conv_norm(f"{prefix}.conv2", 4 * dim, 1, 3)
    return wide | conv_norm(f"{prefix}.conv3", dim, 4 * dim, 1)


def attention_block(prefix: str, dim: int, stage: int) -> StateDict:
    assert TINY.num_heads is not None
    tokens = TINY.window_sizes[stage] ** 2
    state = affine(f"{prefix}.attn.norm", dim) | affine(f"{prefix}.attn.qkv", 3 * dim, dim)
    state |= affine(f"{prefix}.attn.proj", dim, dim) | affine(f"{prefix}.mlp.norm", dim)
    state |= affine(f"{prefix}.mlp.fc1", 4 * dim, dim) | affine(f"{prefix}.mlp.fc2", dim, 4 * dim)
    state[f"{prefix}.attn.attention_biases"] = torch.randn(TINY.num_heads[stage], tokens)
    state[f"{prefix}.attn.attention_bias_idxs"] = torch.zeros(tokens, tokens, dtype=torch.int64)
    return state | conv_norm(f"{prefix}.local_conv", dim, 1, 3)


def test_an_official_tiny_vit_checkpoint_fills_the_network() -> None:
    official = official_tiny_vit(5)
    network = tiny(5)
    load_into(network, InitialWeights(official, exact_head=True), "here")
    own = network.state_dict()
    assert torch.equal(own["stages.2.downsample.conv1.conv.weight"], official["layers.1.downsample.conv1.c.weight"])
    assert torch.equal(own["stages.2.blocks.1.attn.proj.weight"], official["layers.2.blocks.1.attn.proj.weight"])
    assert torch.equal(own["head.norm.weight"], official["norm_head.weight"])
    assert torch.equal(own["head.fc.bias"], official["head.bias"])


def test_names_that_are_timms_already_do_not_change() -> None:
    state = tiny().state_dict()
    assert to_timm(state) == state


class Block(nn.Module):
    """CLIP's residual attention block, for the names and the forward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [N, B, width] to the same."""
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        hidden = self.mlp["c_fc"](self.ln_2(tokens))
        update: torch.Tensor = self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))
        return tokens + update


class Tower(nn.Module):
    """CLIP's image tower."""

    def __init__(self, size: int, patch: int, width: int, layers: int, embed: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = nn.ModuleDict({"resblocks": nn.Sequential(*(Block(width) for _ in range(layers)))})
        self.proj = nn.Parameter(torch.randn(width, embed))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, size, size] to embeddings [B, embed]."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), 1, -1)
        tokens = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        tokens = self.transformer["resblocks"](tokens.transpose(0, 1)).transpose(0, 1)
        embeddings: torch.Tensor = self.ln_post(tokens[:, 0]) @ self.proj
        return embeddings


class Clip(nn.Module):
    """CLIP-ViT fine-tuned on ImageNet-22k, TinyViT's teacher."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.visual = Tower(size=28, patch=14, width=128, layers=2, embed=48)
        self.head = nn.Linear(48, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, 28, 28] to logits [B, classes]."""
        return F.linear(self.visual(images), self.head.weight, self.head.bias)


def random_clip(classes: int) -> Clip:
    """The network with weights none of which has a special value."""
    torch.manual_seed(0)
    network = Clip(classes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


CLIP_SPEC = ModelSpec(
    name="vit_large_patch14_clip_quickgelu_224", kwargs={"embed_dim": 128, "depth": 2, "num_heads": 2}
)


def test_the_clip_teacher_gives_the_logits_of_the_original_code() -> None:
    official = random_clip(11)
    network = build_network(CLIP_SPEC, 11, 28).eval()
    load_into(network, InitialWeights(official.state_dict(), exact_head=True), "here")
    images = torch.randn(3, 3, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), official(images), rtol=1e-4, atol=1e-5)


def test_the_clip_teacher_at_another_resolution_resizes_its_position_embedding() -> None:
    network = build_network(CLIP_SPEC, 11, 56)
    load_into(network, InitialWeights(random_clip(11).state_dict(), exact_head=True), "here")
    assert network.state_dict()["pos_embed"].shape == (1, 17, 128)
