"""Heads from class names and from clusters: written by the command line, and taken by a dump like any classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from torch.nn import functional as F

from benchmarks.tiny_world import SIZE, World
from tests.conftest import CommandLine
from tests.models.foreign_networks import HERE, INPUT
from tests.models.sources import offline_hub
from tests.models.towers import LENGTH, WIDTH, open_clip_folder, tokenizer, transformers_folder
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.models.head_file import read_head
from tinyvit_kd.models.prototypes import prototype_head
from tinyvit_kd.store.store import LogitStore

__all__ = ["offline_hub"]
NAMES = ["cat", "red_dog", "photo"]
TEMPLATES = ["a photo of a {}.", "the drawn {}"]


def class_list(folder: Path, names: list[str] = NAMES) -> Path:
    (folder / "names.txt").write_text("\n".join(names))
    return folder / "names.txt"


def by_hand(embed: Any) -> torch.Tensor:
    """Rows of the head, as CLIP's own notebook computes them."""
    rows = []
    for name in ("cat", "red dog", "photo"):
        with torch.no_grad():
            embeddings = torch.stack([embed(template.replace("{}", name))[0] for template in TEMPLATES])
        mean = (embeddings / embeddings.norm(dim=1, keepdim=True)).mean(dim=0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


def templates() -> list[str]:
    return [word for each in TEMPLATES for word in ("--template", each)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_head_of_texts_is_what_transformers_says_of_them(
    kind: str, tmp_path: Path, command_line: CommandLine
) -> None:
    network = transformers_folder(tmp_path / "model", kind)
    out = tmp_path / "head.safetensors"
    ended = command_line(
        *("head", "text", out, "--classes", class_list(tmp_path), "--transformers", tmp_path / "model", *templates())
    )
    assert ended.code == 0, ended.err
    words = tokenizer()

    def embed(text: str) -> torch.Tensor:
        padding: dict[str, Any] = {"padding": "max_length", "max_length": LENGTH} if kind == "siglip" else {}
        found = network.get_text_features(input_ids=words(text, return_tensors="pt", **padding)["input_ids"])
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    head = read_head(str(out))
    torch.testing.assert_close(head.weight, by_hand(embed), rtol=1e-4, atol=1e-5)
    assert (head.class_ids, head.normalize) == (tuple(NAMES), "both")
    assert head.scale == pytest.approx(float(network.logit_scale.detach().exp()))
    assert head.bias is None if kind == "clip" else head.bias is not None and head.bias.tolist() == [-7.5] * 3
    assert head.made_from is not None
    assert (head.made_from["kind"], head.made_from["templates"]) == ("texts", TEMPLATES)
    assert head.made_from["names"] == ["cat", "red dog", "photo"]


def test_a_head_of_texts_is_what_open_clip_says_of_them(tmp_path: Path, command_line: CommandLine) -> None:
    network = open_clip_folder(tmp_path / "model")
    (tmp_path / "sentences.txt").write_text("\n".join(TEMPLATES))
    out, name = tmp_path / "head.safetensors", f"local-dir:{tmp_path / 'model'}"
    options = ["--open-clip", name, "--templates", tmp_path / "sentences.txt"]
    ended = command_line("head", "text", out, "--classes", class_list(tmp_path), *options, "--json")
    assert ended.code == 0, ended.err
    head = read_head(str(out))
    tokens = open_clip.get_tokenizer(name)
    torch.testing.assert_close(
        head.weight, by_hand(lambda text: network.encode_text(tokens([text]))), rtol=1e-4, atol=1e-5
    )
    assert json.loads(ended.out)["hash"] == head.hash
    assert head.scale == pytest.approx(float(network.logit_scale.detach().exp()))


def test_a_clip_dumps_its_zero_shot_probabilities(world: World, command_line: CommandLine) -> None:
    network = open_clip_folder(world.folder / "clip")
    names, name = class_list(world.folder, sorted(DRAWN_CLASSES)), f"local-dir:{world.folder / 'clip'}"
    head = world.folder / "head.safetensors"
    assert command_line("head", "text", head, "--classes", names, "--open-clip", name).code == 0
    recipe = world.folder / "dump.yaml"
    store = {"path": str(world.folder / "zero-shot"), "topk": len(DRAWN_CLASSES), "views": 1, "encoding": "exact"}
    tree = world.dump(teacher={"open_clip": name, "head": str(head)}, store=store).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(tree))
    planned = command_line("plan", recipe)
    assert planned.code == 0, planned.out
    ended = command_line("dump-logits", recipe)
    assert ended.code == 0, ended.err
    assert f"weights from {name}, head from {head}, {len(DRAWN_CLASSES)} classes (names, from the head)" in ended.err
    assert "teacher_top1" in ended.out
    opened = LogitStore.open(world.folder / "zero-shot")
    assert opened.manifest.teacher.head == read_head(str(head)).hash
    images = replayed(opened, world)
    with torch.inference_mode():
        inputs = (images.float() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
            [0.25, 0.26, 0.27]
        ).view(3, 1, 1)
        cosines = F.normalize(network.encode_image(inputs), dim=1) @ read_head(str(head)).weight.T
        expected = (network.logit_scale.exp() * cosines).softmax(dim=1).numpy()
    np.testing.assert_allclose(opened.read_block(0, 0).probs, expected, rtol=1e-3, atol=1e-6)
    assert command_line("plan", recipe).code == 0
    verified = command_line("store", "verify", world.folder / "zero-shot", "--teacher", recipe, "--samples", "8")
    assert verified.code == 0, verified.out
    command_line("head", "text", head, "--classes", names, "--open-clip", name, "--template", "the {}")
    for command in (("dump-logits", recipe), ("plan", recipe)):
        refused = command_line(*command)
        assert refused.code != 0
        assert "teacher.head" in refused.err + refused.out


def replayed(store: LogitStore, world: World) -> torch.Tensor:
    """The views of the first block."""
    from tinyvit_kd.batches.sample_views import SampleViews
    from tinyvit_kd.config.view_spec import ViewSpec
    from tinyvit_kd.data.shards import ShardSet

    spec = ViewSpec.model_validate(store.manifest.view_spec)
    samples = SampleViews(ShardSet.load(world.shards, "train").reader(), spec, store.manifest.seed)
    seeds = store.read_block(0, 0).seeds.tolist()
    views = np.empty((len(seeds), 3, spec.size, spec.size), np.uint8)
    for index, seed in enumerate(seeds):
        samples.render_new(0, index, {0: seed}, 0, views[index : index + 1])
    return torch.from_numpy(views)


@pytest.mark.usefixtures("offline_hub")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--transformers", "nowhere"], "transformers cannot open the network"),
        (["--open-clip", "ViT-B-32"], "nothing says which weights"),
        (["--open-clip", "x", "--transformers", "y"], "one of them"),
        ([], "one of them"),
        (["--transformers", "y", "--checkpoint", "z"], "--checkpoint is of --open-clip"),
        (["--transformers", "y", "--template", "a photo"], "a template has no place for the class's name"),
        (["--transformers", "y", "--templates", "none.txt"], "cannot read the templates"),
        (["--transformers", "model"], "no text tower"),
    ],
)
def test_options_that_make_no_head_of_texts_are_refused(
    options: list[str], words: str, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import ViTConfig, ViTModel

    monkeypatch.chdir(tmp_path)
    if "model" in options:
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained("model")
        tokenizer().save_pretrained("model")
    ended = command_line("head", "text", "head.safetensors", "--classes", class_list(tmp_path), *options)
    assert ended.code == 2
    assert words in ended.err
    assert not Path("head.safetensors").exists()


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["cat", "zebra", "dog", "yak"], [], "class 1 ('zebra') and class 3 ('yak')"),  # words that it does not know
        (["red dog", "cat", "red_dog"], [], "class 0 ('red dog') and class 2 ('red dog')"),
        (["cat", "dog"], ["--template", "a photo of " * 5 + "{}"], "class 0 ('cat') and class 1 ('dog')"),  # cut off
    ],
)
def test_classes_that_have_the_same_embedding_are_refused(
    names: list[str], options: list[str], words: str, tmp_path: Path, command_line: CommandLine
) -> None:
    transformers_folder(tmp_path / "model")
    out = tmp_path / "head.safetensors"
    given = ["--classes", class_list(tmp_path, names), "--transformers", tmp_path / "model", *options]
    ended = command_line("head", "text", out, *given)
    assert ended.code == 2
    assert "two classes have the same embedding" in ended.err
    assert words in ended.err
    assert not out.exists()


@pytest.mark.parametrize("weights", [False, True])
def test_a_folder_of_open_clip_is_asked_for_with_its_prefix(
    weights: bool, tmp_path: Path, command_line: CommandLine
) -> None:
    folder, out = tmp_path / "model", tmp_path / "head.safetensors"
    open_clip_folder(folder)
    given = ["--checkpoint", folder / "open_clip_pytorch_model.bin"] if weights else []
    ended = command_line("head", "text", out, "--classes", class_list(tmp_path), "--open-clip", folder, *given)
    assert ended.code == 2
    assert f"write local-dir:{folder}" in ended.err
    named = f"local-dir:{folder}"
    ended = command_line("head", "text", out, "--classes", class_list(tmp_path), "--open-clip", named, *given)
    assert ended.code == 0, ended.err


def backbone_recipe(world: World, **teacher: Any) -> tuple[Path, DumpConfig]:
    """A dump of a teacher whose head is still to be made."""
    head = str(world.folder / "prototypes.safetensors")
    store = {"path": str(world.folder / "by-prototypes"), "topk": 4, "views": 2, "encoding": "exact"}
    config = world.dump(teacher={"checkpoint": str(world.teacher), "head": head} | teacher, store=store)
    recipe = world.folder / "dump.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return recipe, config


def test_a_teacher_distils_through_prototypes_of_its_embeddings(world: World, command_line: CommandLine) -> None:
    recipe, _ = backbone_recipe(world)
    command = ["head", "prototypes", recipe, "--prototypes", "7", "--samples", "60", "--json"]
    ended = command_line(*command)
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    path = Path(figures["head"])
    assert (figures["prototypes"], figures["samples"]) == (7, 60)
    first = path.read_bytes()
    assert command_line(*command).code == 0
    assert path.read_bytes() == first
    head = read_head(str(path))
    assert head.scale == pytest.approx(10)
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(7))
    dumped = command_line("dump-logits", recipe)
    assert dumped.code == 0, dumped.err
    assert "7 classes (prototypes, from the head)" in dumped.err
    training = world.folder / "pretrain.yaml"
    tree = world.pretrain(store={"path": str(world.folder / "by-prototypes")}).model_dump(mode="json")
    training.write_text(yaml.safe_dump(tree))
    assert command_line("pretrain", training).code == 0
    assert command_line(*command, "--seed", "1").code == 0
    assert path.read_bytes() != first
    refused = command_line("dump-logits", recipe)
    assert refused.code != 0
    assert "teacher.head" in refused.err


def test_prototypes_of_another_head_are_other_classes(world: World, command_line: CommandLine) -> None:
    recipe, config = backbone_recipe(world)
    teachers, stores = [], {}
    for name, seed in {"one": 0, "two": 1, "same": 0}.items():
        path, stores[name] = world.folder / f"{name}.safetensors", str(world.folder / f"store-{name}")
        options = ["--prototypes", "7", "--samples", "60", "--seed", str(seed), "--output", path]
        assert command_line("head", "prototypes", recipe, *options).code == 0
        shown = [] if name == "one" else ["--views-from", stores["one"]]
        overrides = ["--set", f"teacher.head={path}", "--set", f"store.path={stores[name]}"]
        assert command_line("dump-logits", recipe, *overrides, *shown).code == 0
        teachers.append(world.folder / f"{name}.yaml")
        teachers[-1].write_text(yaml.safe_dump({"checkpoint": str(config.teacher.checkpoint), "head": str(path)}))
    ids = {name: read_head(str(world.folder / f"{name}.safetensors")).class_ids or () for name in stores}
    head = read_head(str(world.folder / "one.safetensors"))
    assert ids["one"] == ids["same"] == tuple(f"prototype {number} of {head.hash[:8]}" for number in range(7))
    assert not {*ids["one"]} & {*ids["two"]}

    def pretrained(output: str, **store: Any) -> Any:
        tree = world.pretrain(store=store).model_dump(mode="json") | {"output": str(world.folder / output)}
        (world.folder / f"{output}.yaml").write_text(yaml.safe_dump(tree))
        return world.folder / f"{output}.yaml"

    refused = command_line("pretrain", pretrained("mixed", path=stores["one"], others=[{"path": stores["two"]}]))
    assert refused.code != 0
    assert "class_list_hash" in refused.err
    both = pretrained("both", path=stores["one"], others=[{"path": stores["same"]}])
    ended = command_line("pretrain", both)
    assert ended.code == 0, ended.err
    start = f"student.init_from={world.folder / 'both'}"
    ended = command_line("pretrain", pretrained("next", path=stores["two"]), "--set", start)
    assert ended.code == 0, ended.err
    assert "0 of 7 classes (prototypes) are in the head of" in ended.err
    tried = command_line("audition", recipe, "--teachers", *teachers, "--samples", "20", "--json")
    assert tried.code == 0, tried.err
    pairs = {tuple(each["teachers"]): each["percent"] for each in json.loads(tried.out)["agreement"]}
    assert pairs["one", "two"] is None
    assert pairs["one", "same"]["mean"] == 100


def test_embeddings_that_may_be_logits_are_told_of(world: World, command_line: CommandLine) -> None:
    for call, is_told in {"small": True, "Body": False}.items():
        teacher = {"checkpoint": None, "call": f"{HERE}.{call}"} | INPUT
        recipe, _ = backbone_recipe(world, **teacher)
        ended = command_line("head", "prototypes", recipe, "--prototypes", "5", "--samples", "60")
        assert ended.code == 0, ended.err
        assert (f"{HERE}.small returns, which are those of its layer classifier" in ended.err) == is_told


@pytest.mark.parametrize("option", ["--center", "--no-center"])
def test_the_mean_is_subtracted_or_not(option: str, world: World, command_line: CommandLine) -> None:
    recipe, config = backbone_recipe(world)
    assert command_line("head", "prototypes", recipe, "--prototypes", "7", "--samples", "60", option).code == 0
    head = read_head(str(config.teacher.head))
    assert (head.center is None) == (option == "--no-center")
    assert head.made_from is not None
    assert head.made_from["centered"] == (option == "--center")


def test_prototypes_lie_in_the_middle_of_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(5, 16, generator=generator), dim=1)
    points = (centres.repeat(40, 1) + 0.02 * torch.randn(200, 16, generator=generator)) * 3
    points = points + (offset := torch.full((16,), 7.0))  # all point the same way
    head = prototype_head(points, 5, 0.05, seed=0)
    assert head.center is not None
    assert (head.center - offset - 3 * centres.mean(dim=0)).abs().max() < 0.02
    centres = F.normalize(centres - centres.mean(dim=0), dim=1)
    assert head.scale == pytest.approx(20)
    nearest = (head.rows @ centres.T).max(dim=0)
    assert sorted((head.rows @ centres.T).argmax(dim=1).tolist()) == [0, 1, 2, 3, 4]
    assert nearest.values.min() > 0.99


@pytest.mark.parametrize(
    ("options", "teacher", "words"),
    [
        (["--prototypes", "61", "--samples", "60"], {}, "fewer embeddings than prototypes"),
        ([], {"head": None}, "nothing says where the head is to be written"),
        (["--output", "head.npy"], {}, "a head is written as a .safetensors file"),
    ],
)
def test_what_makes_no_prototypes_is_told(
    options: list[str], teacher: dict[str, Any], words: str, world: World, command_line: CommandLine
) -> None:
    recipe, _ = backbone_recipe(world, **teacher)
    ended = command_line("head", "prototypes", recipe, *options)
    assert ended.code == 2
    assert words in ended.err


def test_no_other_file_is_written_over(world: World, command_line: CommandLine) -> None:
    model = world.folder / "model"
    transformers_folder(model)
    recipe, config = backbone_recipe(world)
    texts, prototypes = world.folder / "texts.safetensors", Path(str(config.teacher.head))
    of_texts = ["--classes", class_list(world.folder), "--transformers", model]
    of_clusters = ["head", "prototypes", recipe, "--prototypes", "7", "--samples", "60"]
    for _ in range(2):  # a head of the same kind is made again
        assert command_line("head", "text", texts, *of_texts).code == 0
        assert command_line(*of_clusters).code == 0
    weights = model / "model.safetensors"
    refusals: dict[Path, str] = {texts: "a head of another kind", weights: "that is none", prototypes: "another kind"}
    before = {path: path.read_bytes() for path in refusals}
    refused = [command_line(*of_clusters, "--output", path) for path in (texts, weights)]
    refused += [command_line("head", "text", path, *of_texts) for path in (prototypes, weights)]
    for path, ended in zip((texts, weights, prototypes, weights), refused, strict=True):
        assert ended.code == 2
        assert refusals[path] in ended.err
        assert str(path) in ended.err
        assert len(ended.err.splitlines()[-1]) < 600  # not all names of a network's tensors
        assert path.read_bytes() == before[path]


def test_the_worlds_views_are_of_the_towers_size() -> None:
    assert (SIZE, WIDTH) == (16, 12)
