"""What the pages tell people to type and to write works: commands and Python run on small data, recipes are recipes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from click.testing import CliRunner

from benchmarks.tiny_world import make_teacher
from tests import pages
from tests.conftest import REPOSITORY
from tests.documented_commands import IMAGES, check, is_command, lay_out, understood, write_sources
from tests.models.timm_folders import TIMM_OPENS_FOLDERS
from tests.pages import PAGES, README, Block
from tests.small_recipes import in_small, require_recipe
from tinyvit_kd.cli import cli
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD, ViewSpec
from tinyvit_kd.config.yaml_text import parse_yaml
from tinyvit_kd.data.locating.locate import Info
from tinyvit_kd.data.synthetic import write_image_folder
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model
from tinyvit_kd.planning.measuring import stopwatch
from tinyvit_kd.views import native
from tinyvit_kd.views.selfcheck import reference_differences
from tinyvit_kd.views.transform import forget_built

SAMPLES = 48
DETECTED = "tiny_vit_5m_224"  # the student that a page gives to a detector
FOLLOWED = [page for page in PAGES[1:] if page.name not in ("API.md", "EXTENDING.md")]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=pages.name)

# Whatever is in a page is looked at.


@EACH_PAGE
def test_every_block_of_a_page_is_of_a_known_language(page: Path) -> None:
    assert page.read_text().count("```") == 2 * len(pages.blocks(page))
    assert {block.language for block in pages.blocks(page)} <= pages.LANGUAGES


@EACH_PAGE
def test_no_command_hides_in_a_block_of_text(page: Path) -> None:
    lines = [line for block in pages.blocks(page) if block.language == "text" for line in block.text.splitlines()]
    assert not [line for line in lines if is_command(line.strip())]


@EACH_PAGE
def test_every_command_of_a_page_could_be_typed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipes = {}
    for block in pages.blocks(page):
        if block.language == "yaml" and block.file is not None:
            recipes[block.file] = tmp_path / Path(block.file).name
            recipes[block.file].write_text(block.text)
        for words in pages.commands(block.text) if block.language == "sh" else ():
            check(words, recipes)
    for text in filter(is_command, pages.code(page)):
        for words in pages.commands(text):
            check(words, recipes)


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf store",
        "tinyvit-kd pretend configs/laptop/pretrain.yaml",
        "tinyvit-kd pretrain configs/laptop/pretrain.yml",
        "tinyvit-kd pretrain configs/laptop/dump.yaml",
        "tinyvit-kd pretrain configs/laptop/pretrain.yaml --view-from store",
        "tinyvit-kd pretrain configs/laptop/pretrain.yaml --set loss.sort=hard",
        "tinyvit-kd pretrain RECIPE --set loss.sort=hard",
        "tinyvit-kd shards build tests",
        "tinyvit-kd shards build tests shards --seed one",
        "torchrun --processes 8 -m tinyvit_kd pretrain RECIPE",
        "torchrun tinyvit_kd pretrain RECIPE",
        "torchrun -m tinyvit_kd pretrain RECIPE --set nothing.at=all",
        "make coffee",
        "python coffee.py",
        "python -m benchmarks.coffee",
        "python -m benchmarks.views --pictures FOLDER",
        "python -m pytest tests/test_coffee.py",
        "sbatch pipelines/slurm/coffee.sbatch RECIPE",
        "sbatch pipelines/slurm/pretrain.sbatch configs/laptop/dump.yaml",
        "sbatch pipelines/slurm/dump.sbatch RECIPE --set nothing.at=all",
        "tinyvit-kd torchrun --processes 8 -m tinyvit_kd pretrain RECIPE",
        "tinyvit-kd torchrun -m tinyvit_kd pretrain RECIPE --set nothing.at=all",
    ],
)
def test_a_command_that_nobody_could_type_is_refused(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    (words,) = pages.commands(line)
    with pytest.raises((AssertionError, ConfigError, ModuleNotFoundError)):
        check(words, {})


@pytest.mark.parametrize("text", ["loss: {sort: hard}", "schedule: {epochs: none}", "coffee: black", "stage: coffee"])
def test_a_part_of_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        require_recipe(parse_yaml(text))


# What is in a page works, in the order of the page.


@pytest.fixture(autouse=True)
def imports_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a page defines, and the folder that they are found in, are forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("my_"):
            del sys.modules[name]
    forget_built()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's commands leave behind, and models to start from; not to be changed."""
    folder = tmp_path_factory.mktemp("pages")
    for seed, name in enumerate(IMAGES):
        write_image_folder(folder / name, SAMPLES, seed)
    write_sources(folder)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    make_teacher(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Reader(folder, patch).follow(README)
    card = ModelCard(
        architecture=ModelSpec(name=DETECTED).model_dump(mode="json"),
        num_classes=1000,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    network = build_network(card.spec, card.num_classes, card.image_size)
    save_model(folder / "runs" / "tiny_vit_5m_22kto1k" / "model.safetensors", network.state_dict(), card)
    return folder


def test_the_readme_leads_from_images_to_a_student(world: Path) -> None:
    assert {"shards", "store", "distilled", "finetuned"} <= {path.name for path in world.iterdir()}
    assert (world / "finetuned" / "model.safetensors").is_file()


@pytest.mark.parametrize("page", FOLLOWED, ids=pages.name)
def test_a_page_can_be_followed_from_top_to_bottom(
    page: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose blocks need more than one store, or a changed package, is run by tests/api and tests/test_extending.py."""
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    Reader(folder, monkeypatch).follow(page)


class Reader:
    """Does what a page says, block by block, in a folder; what takes long or needs other machines is left out."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.recipes: dict[str, Path] = {}
        self.names: dict[str, Any] = {"__name__": "a page"}
        patch.setattr(stopwatch, "_SECONDS", 0.0)

    def follow(self, page: Path) -> None:
        """Read a page from top to bottom."""
        for block in pages.blocks(page):
            match block.language:
                case "sh":
                    for words in pages.commands(block.text):
                        self._type(words)
                case "yaml":
                    self._take_recipe(block)
                case "python":
                    self._execute(block)
                case "json":
                    Info.model_validate_json(block.text)

    def _type(self, words: list[str]) -> None:
        if words[0] == f"{native.SWITCH}=0" and reference_differences():
            return  # with this version of Pillow there is no other renderer
        while "=" in words[0]:
            self.patch.setenv(*words[0].split("=", 1))
            words = words[1:]
        if words[0] != "tinyvit-kd" or words[1] in ("demo", "torchrun"):  # tests/stages/test_demo.py runs that
            return
        if words[1:3] == ["head", "text"]:  # weights would be fetched; tests/stages/test_head_commands.py has some
            return
        if any("://" in word for word in words):  # tests/data and tests/stages have servers for that
            return
        command, typed = understood(words[1:]), words[1:]
        recipe = None if command is None else command.load(self.recipes)
        if command is not None and command.recipe is not None and recipe is not None:
            (self.folder / command.recipe).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / command.recipe).write_text(yaml.safe_dump(in_small(recipe, self.folder)))
            typed = pages.without_settings(typed)  # they are in it
        if "--samples-per-shard" in typed:
            typed = [*typed, "--samples-per-shard", str(SAMPLES // 3)]  # there are fewer of them than a reader has
        if command is not None and "processes" in command.values:
            typed = [*typed, "--processes", "1"]
        done = CliRunner().invoke(cli, typed, catch_exceptions=False)
        assert done.exit_code == 0, f"{' '.join(words)}: {done.output}"

    def _take_recipe(self, block: Block) -> None:
        require_recipe(parse_yaml(block.text))
        if block.file is not None:
            self.recipes[block.file] = self.folder / f"{Path(block.file).name}.page"
            self.recipes[block.file].write_text(block.text)

    def _execute(self, block: Block) -> None:
        code = compile(block.text, "a page", "exec")
        if block.file is not None:
            (self.folder / block.file).write_text(block.text)
        elif "local-dir:" in block.text:
            if TIMM_OPENS_FOLDERS:
                exec(code, self.names)
            else:
                self.names["timm"] = timm  # which the next block needs, too
        elif "pretrained=True" not in block.text or '"file"' in block.text:  # else weights would be fetched
            exec(code, self.names)


def test_the_view_spec_that_is_written_out_is_the_default() -> None:
    first = next(block for block in pages.blocks(REPOSITORY / "docs" / "VIEWS.md") if block.language == "yaml")
    written, default = ViewSpec.model_validate(parse_yaml(first.text)["views"]), ViewSpec()
    assert written.ratio == pytest.approx(default.ratio)
    assert written.model_copy(update={"ratio": default.ratio}) == default
    assert ViewSpec.model_fields.keys() - written.model_fields_set == {"mean", "std", "transform"}
