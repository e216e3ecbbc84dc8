"""Candidates are trained on all shards but those held out, and scored on these alone, each sample once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.local_files import block_file
from benchmarks.tiny_world import MIXED, TRAINING, World
from tests.contraction.proxies import CLASSES, PROXY, SCHEDULE, candidate, contract_recipe, make_world
from tests.data.counting import CountingShards, Reads
from tests.runs.holes import rewrite, with_hole
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.contraction import held_out_batches
from tinyvit_kd.contraction.brief_training import begin_part
from tinyvit_kd.contraction.proxy import Proxy, open_proxy
from tinyvit_kd.contraction.scores import FIGURES
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.errors import BlockMissingError, ConfigError, NonFiniteLossError, StoreError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime import compiling, signals
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import Preempted
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.learning_rate import scaled_rates
from tinyvit_kd.views.mixing import mix_views, sample_mix
from tinyvit_kd.views.render import render_views

FAST: dict[str, Any] = {"base_lr": 0.2, "warmup_lr": 1e-4, "min_lr": 1e-4}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Six shards, of which two are held out, in two views."""
    return make_world(tmp_path_factory.mktemp("proxies"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with mixed views."""
    return make_world(tmp_path_factory.mktemp("mixed"), views=MIXED)


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in network.state_dict().values()])


def records_scored(proxy: Proxy, network: nn.Module) -> Iterator[dict[str, list[float]]]:
    """By held-out sample, straight from the store's records: the figures of each view that counts."""
    data = proxy.data
    (store,) = data.stores
    spec = ViewSpec.model_validate(store.manifest.view_spec)
    reader = data.shards.reader()
    samples = SampleViews(reader, spec, store.manifest.seed)
    normalize = Normalizer(proxy.config.normalize.mean, proxy.config.normalize.std, torch.device("cpu"))
    network.eval()
    for shard in proxy.held_out.split.held_out:
        for index in range(int(data.shards.lengths[shard])):
            found: dict[str, list[float]] = {name: [] for name in FIGURES}
            for number in range(store.manifest.views):
                block = store.read_block(shard, number)
                if not block.valid[index]:
                    continue
                view = render_views(reader.read(shard, index), [int(block.seeds[index])], spec)[0]
                partner, lam = samples.partner(shard, index, number), 1.0
                if partner >= 0 and block.valid[partner]:
                    mix = sample_mix(int(block.seeds[index]), int(block.seeds[partner]), spec)
                    if mix is not None:
                        other = render_views(reader.read(shard, partner), [int(block.seeds[partner])], spec)[0]
                        view, lam = mix_views(view, other, mix), mix.lam
                with torch.inference_mode():
                    logits = network(normalize(torch.from_numpy(view)[None])).double()[0]
                absent = proxy.num_classes - block.indices.shape[1]
                teacher = torch.full((proxy.num_classes,), float(block.residual[index]) / absent, dtype=torch.float64)
                teacher[torch.from_numpy(block.indices[index]).long()] = torch.from_numpy(block.probs[index]).double()
                best = int(logits.argmax())
                own, others = (int(reader.labels(shard, np.array([each]))[0]) for each in (index, partner))
                found["cross_entropy"].append(float(-(teacher * logits.log_softmax(dim=0)).sum()))
                found["agreement"].append(100.0 * (best == int(teacher.argmax())))
                found["top1"].append(100 * (lam * (best == own) + (1 - lam) * (best == others)))
            yield found


def assert_scored(proxy: Proxy, network: nn.Module) -> None:
    score, losses = proxy.score(network, 0, 0)
    every_sample = list(records_scored(proxy, network))
    by_sample = [each for each in every_sample if each["agreement"]]
    assert score.samples == len(by_sample)
    expected = [np.mean(each["cross_entropy"] or [math.nan]) for each in every_sample]
    assert losses == pytest.approx(np.array(expected), abs=1e-4, nan_ok=True)
    for name in FIGURES:
        means = np.array([np.mean(each[name]) for each in by_sample])
        assert getattr(score, name) == pytest.approx(means.mean(), abs=1e-4), name
        assert score.errors[name] == pytest.approx(means.std(ddof=1) / math.sqrt(len(means)), abs=1e-4), name


@pytest.mark.parametrize("micro_batch", [4, None])
@pytest.mark.parametrize("name", ["world", "mixed"])
def test_scores_are_those_of_the_records_and_their_views(
    name: str, micro_batch: int | None, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(name)
    schedule = SCHEDULE | {"micro_batch_size": micro_batch}  # two and four samples in a batch: the last has fewer
    proxy = open_proxy(contract_recipe(world, schedule=schedule), solo_job())
    assert len(proxy.held_out.split.held_out) == 2
    assert (proxy.has_labels, proxy.num_classes, proxy.image_size) == (True, CLASSES, 16)
    assert_scored(proxy, candidate())


def test_holes_count_nowhere(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    proxy = open_proxy(contract_recipe(world), solo_job())
    (store,), shard = proxy.data.stores, proxy.held_out.split.held_out[0]
    for view, rows in ((0, [0, 1, 2]), (1, [0, 1])):  # of the third sample, one view counts
        block = store.read_block(shard, view)
        for row in rows:
            block = with_hole(block, row)
        rewrite(store, shard, view, block)
    proxy = open_proxy(contract_recipe(world), solo_job())
    score, losses = proxy.score(candidate(), 0, 0)
    assert score.samples == sum(proxy.held_out.split.scored) - 2
    assert np.flatnonzero(np.isnan(losses)).tolist() == [0, 1]
    assert_scored(proxy, candidate())


def test_an_untrained_network_knows_nothing_and_training_teaches_it(world: World) -> None:
    config = contract_recipe(world, optim=FAST)
    proxy = open_proxy(config, solo_job())
    network = candidate()
    before, _ = proxy.score(network, 0, 0)
    assert before.cross_entropy == pytest.approx(math.log(CLASSES), abs=0.05)
    proxy.train(network, 0, 20, 0)
    after, _ = proxy.score(network, 20, 0)
    assert after.cross_entropy < before.cross_entropy - 0.05
    assert (after.steps, after.seed, after.samples) == (20, 0, sum(proxy.held_out.split.scored))
    assert all(error >= 0 for error in after.errors.values())


class Counting:
    """What training and scoring read: images and blocks, by shard."""

    def __init__(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images, self.blocks = Reads(), Reads()
        shards = CountingShards.of(proxy.data.shards, self.images)
        data = replace(proxy.data, shards=shards)
        self.proxy = replace(proxy, data=data, held_out=replace(proxy.held_out, data=data))
        read = LogitStore.read_planes

        def counted(store: LogitStore, shard: int, view: int) -> Planes:
            self.blocks[shard, view] += 1
            return read(store, shard, view)

        monkeypatch.setattr(LogitStore, "read_planes", counted)

    def shards(self) -> set[int]:
        """All that have been read from since the last call."""
        found = {shard for shard, _ in (*self.images, *self.blocks)}
        self.images.clear()
        self.blocks.clear()
        return found


@pytest.mark.parametrize("name", ["world", "mixed"])
def test_nothing_of_a_held_out_shard_is_read_in_training_and_nothing_else_in_scoring(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(open_proxy(contract_recipe(request.getfixturevalue(name)), solo_job()), monkeypatch)
    proxy, held_out = counting.proxy, set(counting.proxy.held_out.split.held_out)
    counting.shards()
    proxy.train(candidate(), 0, 20, 3)
    assert counting.shards() == set(range(6)) - held_out
    proxy.score(candidate(), 0, 0)
    assert set(counting.blocks) == {(shard, view) for shard in held_out for view in range(2)}
    assert max(counting.blocks.values()) == 1
    assert counting.shards() == held_out


def test_few_held_out_samples_are_rendered_once_for_all_scores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(open_proxy(contract_recipe(world), solo_job()), monkeypatch)
    first, _ = counting.proxy.score(candidate(), 0, 0)
    assert counting.shards()
    assert counting.proxy.score(candidate(), 0, 0)[0] == first
    assert not counting.shards()
    monkeypatch.setattr(held_out_batches, "KEPT_BYTES", 100)
    large = replace(counting.proxy, held_out=replace(counting.proxy.held_out))
    for _ in range(2):
        assert large.score(candidate(), 0, 0)[0] == first
        assert counting.shards()


def test_a_score_that_was_cut_short_leaves_no_part_of_the_samples(world: World) -> None:
    proxy = open_proxy(contract_recipe(world), solo_job())
    with proxy.held_out.batches() as batches:
        next(batches)
    assert proxy.score(candidate(), 0, 0)[0].samples == sum(proxy.held_out.split.scored)


def test_the_same_arguments_give_the_same_bits_with_any_number_of_workers(world: World) -> None:
    results = []
    for workers in (0, 0, 2):
        proxy = open_proxy(contract_recipe(world, runtime={"workers": workers, "prefetch": 2}), solo_job())
        network = candidate(drop_path_rate=0.3)
        torch.manual_seed(workers)
        proxy.train(network, 0, 6, 1)
        score, losses = proxy.score(network, 6, 1)
        results.append((weights(network).tolist(), score, losses.tolist()))
    assert results[0] == results[1] == results[2]
    other = candidate(drop_path_rate=0.3)
    proxy.train(other, 0, 6, 2)
    assert weights(other).tolist() != results[0][0]


def test_parts_go_on_in_the_order_with_an_optimiser_and_rates_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = open_proxy(contract_recipe(world, proxy=PROXY | {"base_lr": 0.07}), solo_job())
    seen: list[tuple[int, float, int]] = []
    trained: list[tuple[int, list[tuple[int, int]]]] = []
    step, replay = torch.optim.AdamW.step, StoredBatches.replay

    def noted(optimizer: torch.optim.AdamW, *arguments: Any) -> Any:
        seen.append((len(seen), optimizer.param_groups[0]["lr"], id(optimizer)))
        return step(optimizer, *arguments)

    def replayed(maker: StoredBatches, epoch: int, shards: Any, indexes: Any, arrays: Any) -> int:
        trained.append((epoch, list(zip(shards.tolist(), indexes.tolist(), strict=True))))
        return replay(maker, epoch, shards, indexes, arrays)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    monkeypatch.setattr(StoredBatches, "replay", replayed)
    network = candidate()
    proxy.train(network, 0, 10, 4)
    proxy.train(network, 10, 20, 4)
    assert len({optimizer for *_, optimizer in seen[:10]}) == 1
    rates = [rate for _, rate, _ in seen]
    assert rates[:10] == rates[10:]
    peak, warmup, low = (getattr(scaled_rates(proxy.config.optim, 8), name) for name in ("peak", "warmup", "minimum"))
    peak *= 0.07 / proxy.config.optim.base_lr
    assert rates[0] == pytest.approx(warmup)
    assert rates[1] == pytest.approx((warmup + peak) / 2)
    for number in range(2, 10):
        assert rates[number] == pytest.approx(low + (peak - low) * (1 + math.cos(math.pi * number / 10)) / 2)
    plan = replace(proxy.plan, schedule=proxy.plan.schedule.model_copy(update={"seed": 4}))
    assert plan.steps_per_epoch < 10
    for number, (epoch, samples) in enumerate(trained):
        expected, shards, indexes = plan.samples(number)
        assert (epoch, samples) == (expected, list(zip(shards.tolist(), indexes.tolist(), strict=True)))


def test_shards_may_be_read_through_a_cache(world: World, tmp_path: Path) -> None:
    cache = {"cache_dir": str(tmp_path / "cache"), "cache_gib": 1, "cache_local": True}
    results = []
    for shards in ({}, cache):
        section = {"path": str(world.shards), "split": "train"} | shards
        proxy = open_proxy(contract_recipe(world, shards=section), solo_job())
        network = candidate()
        proxy.train(network, 0, 20, 0)
        results.append((weights(network).tolist(), proxy.score(network, 20, 0)[0]))
    assert results[0] == results[1]
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 6


def test_seeds_differ_in_the_order_and_not_in_what_is_held_out(world: World) -> None:
    proxy = open_proxy(contract_recipe(world), solo_job())
    again = open_proxy(contract_recipe(world), solo_job())
    assert again.identity == proxy.identity
    other = open_proxy(contract_recipe(world, schedule=SCHEDULE | {"seed": 9}), solo_job())
    assert other.held_out.split != proxy.held_out.split
    assert other.identity["held-out shards"] != proxy.identity["held-out shards"]


def test_steps_are_those_of_a_run(world: World) -> None:
    """The run's clipping, autocast, smoothing of labels and micro-batches are the recipe's."""
    config = contract_recipe(
        world,
        optim=FAST | {"clip_grad": 0.5},
        schedule=SCHEDULE | {"micro_batch_size": 4},
        loss={"alpha": 0.5, "label_smoothing": 0.2},
        runtime={"workers": 0, "precision": "bfloat16"},
    )
    proxy = open_proxy(config, solo_job())
    run, _ = begin_part(config, candidate(), range(3, 9), 5, Compiler(solo_job()), lambda *_: [])
    assert (run.clip_grad, run.micro_batches, run.precision, run.seed, run.total_steps) == (0.5, 2, "bfloat16", 5, 9)
    proxy.train(candidate(), 0, 2, 0)


def test_a_loss_that_is_not_finite_is_the_candidates_failure(world: World) -> None:
    proxy = open_proxy(contract_recipe(world), solo_job())
    network = candidate()
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="step 3"):
        proxy.train(network, 3, 6, 0)
    with pytest.raises(NonFiniteLossError, match="held-out samples, after 3 steps"):
        proxy.score(network, 3, 0)
    skipping = contract_recipe(world, train=TRAINING["train"] | {"on_non_finite": "skip"})
    with pytest.raises(NonFiniteLossError):
        open_proxy(skipping, solo_job()).train(network, 0, 4, 0)


def test_a_candidate_that_fails_leaves_the_proxy_as_it_was(world: World) -> None:
    proxy = open_proxy(contract_recipe(world), solo_job())
    expected, again, broken = candidate(), candidate(), candidate()
    proxy.train(expected, 0, 3, 0)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(NonFiniteLossError):
        proxy.train(broken, 0, 3, 0)
    proxy.train(again, 0, 3, 0)
    assert torch.equal(weights(again), weights(expected))


@pytest.mark.parametrize("what", ["train", "score"])
def test_a_stop_ends_the_work_at_the_next_batch(world: World, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = open_proxy(contract_recipe(world), solo_job())
    monkeypatch.setattr(signals, "_received", [signals.STOP_SIGNALS[0]])  # as if its exception had been swallowed
    arguments = {"train": (0, 20, 0), "score": (0, 0)}[what]
    with pytest.raises(Preempted):
        getattr(proxy, what)(candidate(), *arguments)


def listed(world: World, folder: Path, ids: list[str]) -> dict[str, Any]:
    """The section for shards whose labels are numbers of these classes."""
    (folder / "classes.txt").write_text("\n".join(ids) + "\n")
    return {"path": str(world.shards), "split": "train", "class_list": str(folder / "classes.txt")}


def test_labels_are_found_among_the_classes_of_the_head(world: World, tmp_path: Path) -> None:
    ids = sorted(DRAWN_CLASSES)
    reverse = listed(world, tmp_path, [*ids[:0:-1], "no class of the teacher"])
    proxy = open_proxy(contract_recipe(world, shards=reverse), solo_job())
    assert proxy.has_labels
    plain = open_proxy(contract_recipe(world), solo_job())
    before, after = (
        torch.cat([batch.labels.clone() for batch in batches if batch.labels is not None])
        for each in (plain, proxy)
        for batches in [loaded(each)]
    )
    assert after.tolist() == [CLASSES - 1 - label if label < CLASSES - 1 else -1 for label in before.tolist()]


def loaded(proxy: Proxy) -> list[Batch]:
    """All held-out batches."""
    with proxy.held_out.batches() as batches:
        return [batch.clone() for batch in batches]


def test_without_labels_there_is_no_top1(world: World, tmp_path: Path) -> None:
    shards = listed(world, tmp_path, [f"class {number}" for number in range(CLASSES)])
    proxy = open_proxy(contract_recipe(world, shards=shards), solo_job())  # classes that the teacher does not have
    assert not proxy.has_labels
    score, _ = proxy.score(candidate(), 0, 0)
    assert score.top1 is None
    assert set(score.errors) == {"cross_entropy", "agreement"}
    with pytest.raises(ConfigError):
        open_proxy(contract_recipe(world, shards=shards, loss={"alpha": 0.5}), solo_job())


def test_a_distilled_network_is_trained_by_its_token_and_scored_by_both_heads(world: World) -> None:
    proxy = open_proxy(contract_recipe(world, loss={"kind": "token"}), solo_job())
    spec = contract_recipe(
        world,
        student={
            "name": "deit_tiny_distilled_patch16_224",
            "kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        },
    ).student
    network = build_network(spec, proxy.num_classes, 16, 0)
    proxy.train(network, 0, 4, 0)
    score, _ = proxy.score(network, 4, 0)
    assert 0 < score.cross_entropy < 10
    proxy.train(network, 4, 8, 0)
    with pytest.raises(ConfigError, match="no distillation token"):
        proxy.train(candidate(), 0, 1, 0)


def test_only_the_views_that_a_candidate_uses_are_required(tmp_path: Path) -> None:
    """Of trained shards those of its epochs, of held-out shards the scored ones."""
    world = make_world(tmp_path, store={"path": str(tmp_path / "store"), "topk": 5, "views": 6})
    store = LogitStore.open(world.store)
    config = contract_recipe(world, proxy=PROXY | {"steps": 8})
    proxy = open_proxy(config, solo_job())
    assert (proxy.plan.steps_per_epoch, proxy.plan.schedule.epochs, proxy.held_out.views) == (4, 2, 4)
    held_out = proxy.held_out.split.held_out
    for shard in range(len(store.manifest.shard_names)):
        for view in (4, 5) if shard in held_out else (2, 3, 4, 5):
            block_file(store, shard, view).unlink()
    proxy = open_proxy(config, solo_job())
    network = candidate()
    proxy.train(network, 0, 8, 0)
    proxy.score(network, 8, 0)
    with pytest.raises(BlockMissingError) as told:
        open_proxy(contract_recipe(world, proxy=PROXY | {"steps": 20}), solo_job())
    trained = [name for shard, name in enumerate(store.manifest.shard_names) if shard not in held_out]
    assert told.value.found == f"12 of 28 missing: views 2-4 of {', '.join(trained)} (trained on)"


def test_missing_blocks_are_told_by_view_and_shard_with_what_to_do(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    config = contract_recipe(world)
    split = open_proxy(config, solo_job()).held_out.split
    store, first = LogitStore.open(world.store), split.held_out[0]
    other = next(shard for shard in range(6) if shard not in split.held_out)
    block_file(store, first, 1).unlink()
    for view in (0, 1):
        block_file(store, other, view).unlink()
    with pytest.raises(BlockMissingError, match="blocks of the store that the search needs are missing") as told:
        open_proxy(config, solo_job())
    names = store.manifest.shard_names
    assert told.value.found == (
        f"3 of 12 missing: views 0-1 of {names[other]} (trained on); view 1 of {names[first]} (held out)"
    )
    assert "dump-logits" in told.value.fix
    assert "follow" not in told.value.fix
    dump_logits(world.dump(), solo_job())
    open_proxy(config, solo_job())


def test_of_many_missing_blocks_some_are_named(tmp_path: Path) -> None:
    world = make_world(tmp_path, store={"path": str(tmp_path / "store"), "topk": 5, "views": 9})
    store = LogitStore.open(world.store)
    config = contract_recipe(world, proxy=PROXY | {"steps": 54, "held_out": 0.1})
    for shard in range(6):
        for view in (0, 2, 4, 6, 8):
            block_file(store, shard, view).unlink()
    with pytest.raises(BlockMissingError) as told:
        open_proxy(config, solo_job())
    assert "views 0, 2, 4, 6 and 1 more of" in told.value.found
    assert "and 1 more (trained on); views 0, 2 of" in told.value.found


def test_a_single_shard_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, samples=20, per_shard=100)
    with pytest.raises(StoreError, match="a store without held-out blocks"):
        open_proxy(contract_recipe(world), solo_job())


def test_too_few_samples_for_a_step_are_refused(world: World) -> None:
    config = contract_recipe(world, schedule=SCHEDULE | {"global_batch_size": 16}, proxy=PROXY | {"held_out": 0.9})
    with pytest.raises(ConfigError, match="do not fill one step") as told:
        open_proxy(config, solo_job())
    assert "of 60" in told.value.found


def test_candidates_of_any_number_of_shapes_are_compiled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dynamo would compile a function for a few networks, and run others as they are."""
    from torch._dynamo.testing import CompileCounter

    class Small(nn.Sequential):
        def __init__(self, width: int) -> None:
            super().__init__(
                nn.Conv2d(3, width, 4, 4),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(width * 16, CLASSES),
            )

    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    proxy = open_proxy(contract_recipe(world, runtime={"workers": 0, "compile": True}), solo_job())
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=1):
        for number, width in enumerate((2, 3, 4), 1):
            network = Small(width)
            proxy.train(network, 0, 2, 0)
            assert counter.frame_count == 2 * number  # the network, and the loss
            assert torch.isfinite(F.softmax(network(torch.zeros(1, 3, 16, 16)), dim=1)).all()
    torch.compiler.reset()
