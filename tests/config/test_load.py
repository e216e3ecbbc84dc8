"""All mistakes in a recipe are named together, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.load import dump_yaml, load_recipe, validate
from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.config.yaml_text import parse_yaml
from tinyvit_kd.errors import ConfigError

GOOD = """
stage: pretrain
output: runs/x
shards: {path: shards}
store: {path: store}
student: {name: tiny_vit_5m_224}
optim: {base_lr: 2.5e-4}
schedule: {epochs: 3, global_batch_size: 64, lanes: 8}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_good_recipe_loads_and_survives_being_written_out(tmp_path: Path) -> None:
    recipe = load_recipe(PretrainConfig, write(tmp_path, GOOD))
    assert recipe.optim.base_lr == 2.5e-4
    assert load_recipe(PretrainConfig, write(tmp_path, dump_yaml(recipe))) == recipe


def test_set_overrides_a_field_and_creates_a_section(tmp_path: Path) -> None:
    recipe = load_recipe(
        PretrainConfig,
        write(tmp_path, GOOD),
        ["optim.base_lr=1e-3", "runtime.workers=0", "train.ema_decay=0.9"],
    )
    assert (recipe.optim.base_lr, recipe.runtime.workers, recipe.train.ema_decay) == (1e-3, 0, 0.9)


@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig])
def test_training_in_float16_is_refused_by_what_it_would_do(kind: type[TrainingConfig], tmp_path: Path) -> None:
    text = GOOD.replace("pretrain", kind.model_fields["stage"].annotation.__args__[0])  # type: ignore[union-attr]
    text = text if kind is PretrainConfig else text.replace("store: {path: store}", "")
    assert load_recipe(kind, write(tmp_path, text), ["runtime.precision=bfloat16"]).runtime.precision == "bfloat16"
    with pytest.raises(ConfigError, match=r"runtime: precision float16 .* gradients would become zero"):
        load_recipe(kind, write(tmp_path, text), ["runtime.precision=float16"])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        pytest.param("optim: {base_lr: fast}", "optim.base_lr: found 'fast'", id="mistyped value"),
        pytest.param("optim: {}", "optim.base_lr: missing; peak learning rate", id="missing field"),
        pytest.param("optim: {base_lr: 1, ep: 1}", "optim.ep: unknown key; did you mean eps", id="unknown key"),
        pytest.param("optim: {base_lr: .nan}", "optim.base_lr", id="not a number"),
        pytest.param(
            "schedule: {epochs: 3, warmup_epochs: 3, global_batch_size: 8}", "warmup_epochs (3)", id="warm-up"
        ),
        pytest.param("student: {name: a, tiny_vit: {embed_dims: [1, 2, 3, 4]}}", "not both", id="two architectures"),
        pytest.param("student: {}", "give name, tiny_vit or call", id="no architecture"),
        pytest.param(
            "store: {path: store, trust_transform: maybe}", "store.trust_transform: found 'maybe'", id="half a trust"
        ),
        pytest.param("store: elsewhere", "store", id="a text where a section belongs"),
        pytest.param("stage: finetune", "a recipe for finetune, not for pretrain", id="recipe of another stage"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, edit: str, expected: str) -> None:
    key = edit.split(":")[0]
    lines = [line for line in GOOD.splitlines() if not line.startswith(f"{key}:")]
    with pytest.raises(ConfigError) as caught:
        load_recipe(PretrainConfig, write(tmp_path, "\n".join([*lines, edit])))
    assert expected in str(caught.value)
    assert str(tmp_path / "recipe.yaml") in str(caught.value)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    text = GOOD.replace("epochs: 3", "epochs: none").replace("base_lr: 2.5e-4", "lr: 1") + "batch: 3\n"
    with pytest.raises(ConfigError, match="4 mistakes") as caught:
        load_recipe(PretrainConfig, write(tmp_path, text))
    for part in ("schedule.epochs", "optim.base_lr", "optim.lr", "batch: unknown key"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [1", "not valid YAML", id="broken syntax"),
        pytest.param("- 1\n- 2", "not a mapping", id="a list"),
        pytest.param("", "not a mapping", id="an empty file"),
        pytest.param("a: !!python/object/apply:os.system [ls]", "not valid YAML", id="code in YAML"),
    ],
)
def test_what_is_not_a_recipe_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_recipe(PretrainConfig, write(tmp_path, text))


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recipe.*No such file.*To do: check its path"):
        load_recipe(PretrainConfig, tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["optim.base_lr", "=3", "optim..x=1", "a=[1"])
def test_a_malformed_override_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_recipe(PretrainConfig, write(tmp_path, GOOD), [text])


@pytest.mark.parametrize(("text", "value"), [("5e-4", 5e-4), ("1E3", 1000.0), ("5.e-1", 0.5), ("e5", "e5")])
def test_numbers_in_scientific_notation_are_numbers(text: str, value: object) -> None:
    assert parse_yaml(text) == value


def test_a_teacher_needs_weights_from_exactly_one_place() -> None:
    base = {"stage": "dump-logits", "shards": {"path": "x"}, "store": {"path": "y", "views": 1}}
    with pytest.raises(ConfigError, match="give checkpoint"):
        validate(DumpConfig, {**base, "teacher": {"name": "vit"}}, "here")
    with pytest.raises(ConfigError, match="not both"):
        validate(DumpConfig, {**base, "teacher": {"name": "vit", "checkpoint": "c", "pretrained": True}}, "here")


def test_a_store_is_named_once() -> None:
    store = {"path": "a", "others": [{"path": "b"}, {"path": "a", "weight": 2}]}
    with pytest.raises(ConfigError, match="a is named twice"):
        validate(StoredTargetsConfig, store, "here")


def test_color_jitter_beside_randaugment_is_refused() -> None:
    tree = {
        "stage": "dump-logits",
        "shards": {"path": "x"},
        "store": {"path": "y", "views": 1},
        "teacher": {"checkpoint": "c"},
        "views": {"color_jitter": 0.4},
    }
    with pytest.raises(ConfigError, match="views: color_jitter needs"):
        validate(DumpConfig, tree, "here")


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ({"transform": {"call": "a.b"}, "erase_prob": 0.5, "hflip": 0.5}, "hflip, erase_prob would have no effect"),
        ({"transform": {"call": "a.b", "name": "a.b"}}, "views.transform: give exactly one of call"),
        ({"transform": {}}, "views.transform: give exactly one of call"),
        ({"transform": {"name": "a.b", "kwargs": {"c": 1}}}, "views.transform: args and kwargs belong to call"),
        (
            {"transform": {"call": "a.b", "args": [{"c": float("nan")}]}},
            "args.0.dict.c.float: found nan",
        ),
    ],
    ids=["fields beside a transform", "both", "neither", "arguments of nothing", "not a number"],
)
def test_a_transform_stands_alone_and_is_called_or_named(views: dict[str, object], expected: str) -> None:
    tree = {"stage": "dump-logits", "shards": {"path": "x"}, "store": {"path": "y", "views": 1}, "views": views}
    with pytest.raises(ConfigError) as caught:
        validate(DumpConfig, tree | {"teacher": {"checkpoint": "c"}}, "here")
    assert expected in str(caught.value)


def test_a_recipe_with_a_transform_survives_being_written_out(tmp_path: Path) -> None:
    text = GOOD.replace("pretrain", "finetune").replace(
        "store: {path: store}", "views: {transform: {call: a.b}, mixup: 1}"
    )
    recipe = load_recipe(FinetuneConfig, write(tmp_path, text))
    assert load_recipe(FinetuneConfig, write(tmp_path, dump_yaml(recipe))) == recipe
