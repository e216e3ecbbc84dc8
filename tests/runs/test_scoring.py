"""An evaluation: compiled once for all batches and networks, without waiting for the device, in float32 at the end."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from benchmarks.tiny_world import NETWORK, SIZE, World
from tests.operators import waits
from tinyvit_kd.batches.evaluation_batches import EvalBatches
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import EvalConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.student import open_model
from tinyvit_kd.runs.scoring import Scorer, build_scorer
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import AgreedStop, StopRequest, stop_on_signals
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.evaluation_metrics import METRICS


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """What other tests compiled would be used again."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def scorer_for(folder: Path, compiler: Compiler, batch_size: int = 7) -> tuple[Scorer, nn.Module]:
    """On the 40, 40 and 16 images of the tiny world, and its teacher."""
    network, card = open_model(World(folder).teacher)
    evaluation = {
        "shards": {"path": str(World(folder).shards), "split": "train"},
        "views": {"size": SIZE},
        "batch_size": batch_size,
    }
    normalize = Normalizer(card.mean, card.std, torch.device("cpu"))
    config = EvalConfig.model_validate(evaluation)
    return build_scorer(solo_job(), config, RuntimeConfig(workers=0), normalize, card, compiler), network


def batch(count: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return Batch(views, torch.ones(count), torch.arange(count), None)


def test_one_graph_scores_full_and_last_batches_of_two_networks_in_training_and_out_of_it(dumped: Path) -> None:
    plain = scorer_for(dumped, Compiler(solo_job()))
    expected = plain[0](plain[1])
    counter = CompileCounter()
    scorer, network = scorer_for(dumped, Compiler(solo_job(), True, backend=counter))
    assert scorer(network) == expected
    assert counter.frame_count == 1
    with torch._dynamo.config.patch(error_on_recompile=True):
        other = copy.deepcopy(network)
        for each in (other, network.train(), other.train()):
            assert scorer(each) == expected
    assert counter.frame_count == 1


def test_a_last_batch_is_filled_up_only_where_the_network_is_compiled(dumped: Path) -> None:
    seen: list[int] = []

    class Noting(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            """Logits that tell each view apart."""
            seen.append(len(images))
            return images.flatten(1)[:, :12]

    for on, sizes in ((False, [3]), (True, [7])):
        scorer, _ = scorer_for(dumped, Compiler(solo_job(), on, backend="eager"))
        scorer.compiler._compiled = {function: function for function in scorer.compiler._compiled}
        torch._dynamo.config.disable = True
        try:
            answers = scorer.answers(Noting(), batch(3).views, "float32")
        finally:
            torch._dynamo.config.disable = False
        assert seen == sizes
        assert torch.equal(answers, scorer.normalize(batch(3).views).flatten(1)[:, :12])
        seen.clear()


def test_an_average_of_weights_is_scored_with_its_biases_of_today(dumped: Path) -> None:
    """timm keeps the attention biases of an evaluation; version 1.0.15 forgets them only when training begins."""
    scorer, network = scorer_for(dumped, Compiler(solo_job()))
    network.eval()
    scorer(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "attention_biases" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=10)
    fresh = build_network(ModelSpec.model_validate({"tiny_vit": NETWORK}), scorer.num_classes, SIZE)
    fresh.load_state_dict(network.state_dict())
    scorer(network)
    with torch.inference_mode():
        assert torch.equal(network(scorer.normalize(batch(3).views)), fresh.eval()(scorer.normalize(batch(3).views)))


def test_a_batch_is_scored_without_waiting_in_float32_wherever_the_network_ran_in_less(dumped: Path) -> None:
    scorer, network = scorer_for(dumped, Compiler(solo_job()))
    network.eval()
    metrics = [metric(scorer.num_classes, (), torch.device("cpu")) for metric in METRICS]

    def score() -> None:
        with torch.inference_mode():
            scored = scorer._score(network, batch(7), "float16")
            assert scored.scores.dtype == torch.float32
            for metric in metrics:
                metric.update(scored)

    assert waits(score) == []


def test_a_signal_ends_an_evaluation_where_it_is_and_all_agree_on_it(
    dumped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, network = scorer_for(dumped, Compiler(solo_job()))
    filled: list[int] = []

    def fill(maker: EvalBatches, task: tuple[int, int, int], arrays: Arrays) -> int:
        filled.append(task[1])
        if len(filled) == 3:
            signal.raise_signal(signal.SIGTERM)
        return whole(maker, task, arrays)

    whole = EvalBatches.fill
    monkeypatch.setattr(EvalBatches, "fill", fill)
    with stop_on_signals() as stop, pytest.raises(AgreedStop):
        scorer(network, stop)
    assert (len(filled), stop.signal) == (3, signal.SIGTERM)
    assert scorer(network, StopRequest())["samples"] == 96


def test_nothing_is_compiled_for_an_evaluation_that_is_left(dumped: Path) -> None:
    counter, stop = CompileCounter(), StopRequest()
    scorer, network = scorer_for(dumped, Compiler(solo_job(), True, backend=counter))
    stop.ask()
    with pytest.raises(AgreedStop):
        scorer(network, stop)
    assert counter.frame_count == 0
