"""Commands take URLs of runs and models; kills and torchrun with a run at a URL; what a dump keeps beside a store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.models.weights import assert_same_weights
from tests.processes import wait_until
from tests.stages.commands import command, on_a_slow_disk, torchrun
from tests.stages.test_preemption import RUNS
from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runs.checkpoint_uploads import remote_checkpoints
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.open import open_storage


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where nothing is yet; this user's cache folder is empty, too."""
    del s3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{uuid4().hex}"


def test_commands_take_urls_of_runs_and_models(
    world: World, bucket: str, s3: S3Server, command_line: CommandLine
) -> None:
    run, here = f"{bucket}/one", world.folder / "here"
    pretrain(world.pretrain(output=run), solo_job())
    pretrain(world.pretrain(output=str(here)), solo_job())
    image = world.folder / "image.png"
    Image.new("RGB", (20, 20), (200, 30, 30)).save(image)
    told = [command_line("predict", each, image, "--json") for each in (run, f"{run}/model.safetensors", here)]
    assert [each.code for each in told] == [0, 0, 0]
    assert told[0].out == told[1].out == told[2].out
    s3.faults.calm()
    status = command_line("status", run, "--json")
    (job,) = json.loads(status.out)["jobs"]
    assert (job["path"], job["state"], job["done"]) == (run, "finished", 12)
    assert [each["step"] for each in job["checkpoints"]] == [12, 8]
    asked = Counter(method for method, path in s3.faults.requests if ".pt" in path or ".safetensors" in path)
    assert asked.keys() <= {"HEAD"}  # neither checkpoints nor models are fetched
    assert len(s3.faults.requests) < 30
    (found,) = json.loads(command_line("status", bucket, "--json").out)["jobs"]
    assert found["path"] == run
    compared = command_line("compare", run, here)
    assert compared.out.split()[:2] == ["one", "here"]
    report = command_line("report", run, "--output", world.folder / "report.html")
    assert report.code == 0
    assert run in (world.folder / "report.html").read_text()
    exported = command_line("export", run, "--format", "timm", "--output", f"{bucket}/exported")
    assert exported.code == 0, exported.err
    written = [path for method, path in s3.faults.requests if method == "PUT" and "/exported/" in path]
    assert [path.rpartition("/")[2] for path in written][-1] == "config.json"
    assert command_line("export", run, "--format", "timm", "--output", f"{bucket}/exported").code == 2
    evaluated = world.evaluate(model=f"{bucket}/exported")
    (world.folder / "evaluate.yaml").write_text(dump_yaml(evaluated))
    assert command_line("evaluate", world.folder / "evaluate.yaml").code == 0
    tuned = world.finetune(student={"init_from": run}, schedule=world.finetune().schedule.model_dump() | {"epochs": 1})
    finetune(tuned, solo_job())
    missing = command_line("predict", f"{bucket}/nothing", image)
    assert missing.code == 2
    assert "there is no model at this URL" in missing.err


@pytest.mark.slow
def test_a_copy_of_a_model_follows_what_is_at_its_url(world: World, bucket: str, command_line: CommandLine) -> None:
    storage = open_storage(bucket)
    image = world.folder / "image.png"
    Image.new("RGB", (20, 20), (200, 30, 30)).save(image)
    storage.upload(world.folder / "teacher" / "model.safetensors", "model.safetensors")
    first = command_line("predict", bucket, image, "--json").out
    pretrain(world.pretrain(), solo_job())
    time.sleep(1.1)  # the service's times are in whole seconds
    storage.upload(world.folder / "distilled" / "model.safetensors", "model.safetensors")
    assert command_line("predict", bucket, image, "--json").out != first
    assert command_line("predict", world.folder / "distilled", image, "--json").code == 0


def test_a_dump_leaves_beside_a_store_at_a_url_what_it_leaves_beside_a_folder(
    world: World, bucket: str, command_line: CommandLine
) -> None:
    store = f"{bucket}/store"
    dump_logits(world.dump(store={"path": store, "topk": 5, "views": 2}), solo_job(), (1, 2))
    beside = {entry.base for entry in open_storage(bucket).list() if entry.kind == "file"}
    endings = ("log", "attempts.json", "progress.json", "results.json")
    assert beside == {f"store.part-1-of-2.{ending}" for ending in endings}
    (job,) = json.loads(command_line("status", store, "--json").out)["jobs"]
    assert (job["path"], job["present"], job["total"]) == (store, 4, 6)
    assert [(part["part"], part["state"]) for part in job["parts"]] == [([1, 2], "finished")]
    dump_logits(world.dump(store={"path": store, "topk": 5, "views": 2}), solo_job(), (2, 2))
    assert json.loads(command_line("status", bucket, "--json").out)["jobs"][0]["state"] == "finished"
    assert command_line("compare", store, world.folder / "store").code == 0


def slow_run(world: World, output: str, machine: str, epochs: int = 6) -> PretrainConfig:
    return world.pretrain(
        output=output,
        schedule={"epochs": epochs, "warmup_epochs": 0.5, "global_batch_size": 16, "lanes": 4, "window": 8},
        train={"log_every": 1, "checkpoint_every": 3},
        runtime={"workers": 0, "work_dir": str(world.folder / machine)},
    )


def wait_for_checkpoint(process: subprocess.Popen[str], url: str, number: int = 1) -> None:
    def arrived() -> bool:
        assert process.poll() is None, "the run ended too early"
        return len(remote_checkpoints(open_storage(url))) >= number

    wait_until(arrived, "no checkpoint has arrived", seconds=120)


def begin(world: World, config: PretrainConfig, *program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(world.folder, config, *(program or on_a_slow_disk(world.folder))),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_stopped_or_killed_run_ends_on_another_machine_as_one_that_nothing_stopped(
    number: signal.Signals, world: World, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/run"
    process = begin(world, slow_run(world, url, "first"))
    wait_for_checkpoint(process, url)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == (REQUEUE_EXIT_CODE if number == signal.SIGTERM else -signal.SIGKILL), told
    monkeypatch.setattr("tinyvit_kd.runs.run_lease.claim.__defaults__", (180.0, 5.0))
    pretrain(slow_run(world, url, "second"), solo_job())
    pretrain(slow_run(world, str(world.folder / "whole"), "third"), solo_job())
    open_storage(url).fetch("model.safetensors", world.folder / "fetched" / "model.safetensors")
    assert_same_weights(world.folder / "fetched", world.folder / "whole")
    assert [line["step"] for line in read_run(url).of_kind("train")] == list(range(1, 37))


@pytest.mark.slow
def test_two_ranks_go_on_in_another_work_folder(world: World, bucket: str) -> None:
    url = f"{bucket}/run"
    process = begin(world, slow_run(world, url, "first", 3), *torchrun(2), *on_a_slow_disk(world.folder))
    wait_for_checkpoint(process, url)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    recipes = {name: world.folder / f"{name}.yaml" for name in ("second", "whole")}
    recipes["second"].write_text(dump_yaml(slow_run(world, url, "second", 3)))
    recipes["whole"].write_text(dump_yaml(slow_run(world, str(world.folder / "whole"), "third", 3)))
    (world.folder / "runs.py").write_text(RUNS)
    program = *torchrun(2), str(world.folder / "runs.py"), *map(str, recipes.values())
    ended = subprocess.run([sys.executable, *program], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert "continuing from step" in ended.stderr
    open_storage(url).fetch("model.safetensors", world.folder / "fetched" / "model.safetensors")
    assert_same_weights(world.folder / "fetched", world.folder / "whole")
