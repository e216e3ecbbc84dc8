"""The code in docs/API.md runs unchanged, and ``import tinyvit_kd`` is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tinyvit_kd
from benchmarks.tiny_world import World, draw_shards, make_teacher
from tests.conftest import REPOSITORY
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain

PAGE = (REPOSITORY / "docs" / "API.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/API.md expects, as the current directory."""
    monkeypatch.chdir(tmp_path)
    world = World(Path())
    draw_shards(Path())
    make_teacher(Path())
    make_teacher(Path("second"), seed=2)
    first: dict[str, Any] = {"path": "stores/first", "topk": 5, "views": 2}
    dump_logits(world.dump(store=first), solo_job())
    second: dict[str, Any] = {"teacher": {"checkpoint": "second/teacher"}, "views_from": "stores/first"}
    dump_logits(world.dump(store=first | {"path": "stores/second"}, **second), solo_job())
    recipe = world.pretrain(store={"path": "stores/first"}, output="runs/student")
    pretrain(recipe, solo_job())
    Path("pretrain.yaml").write_text(dump_yaml(recipe))


@pytest.mark.usefixtures("folder_of_the_page")
def test_every_block_of_the_page_runs_behind_those_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/API.md, block {number + 1}", "exec"), names)
    assert len(BLOCKS) >= 12
    printed = capsys.readouterr().out
    for text in ("96 samples in 3 shards", "2 views per sample", "18 steps, 6 per epoch", "same best class for"):
        assert text in printed
    assert isinstance(tinyvit_kd.view_grid(names["views"]), Image.Image)


def test_the_page_shows_all_names_and_no_other() -> None:
    assert set(re.findall(r"\btinyvit_kd\.(\w+)", "".join(BLOCKS))) <= set(tinyvit_kd.__all__)
    assert all(re.search(rf"\b{name}\b", PAGE) for name in tinyvit_kd.__all__)


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import tinyvit_kd; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert {name.partition(".")[0] for name in loaded.stdout.split()} <= {"tinyvit_kd", *sys.stdlib_module_names}
    assert "tinyvit_kd.api" not in loaded.stdout.split()


def test_a_store_is_read_without_torch(plain: World) -> None:
    code = (
        "import sys, tinyvit_kd\n"
        "store = tinyvit_kd.open_store(sys.argv[1])\n"
        "print(tinyvit_kd.dense(tinyvit_kd.records(store, 0, 0), 24).shape, 'torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(plain.folder / "store")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert shown.stdout.split("\n")[0] == "(40, 24) False"


def test_all_names_are_there_and_hide_no_room() -> None:
    assert all(hasattr(tinyvit_kd, name) for name in tinyvit_kd.__all__)
    assert set(tinyvit_kd.__all__) <= set(dir(tinyvit_kd))
    rooms = {path.name for path in (REPOSITORY / "tinyvit_kd").iterdir()}
    assert not rooms & set(tinyvit_kd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'open_stores'"):
        getattr(tinyvit_kd, "open_stores")  # noqa: B009
