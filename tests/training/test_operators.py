"""A step launches no operator without need, and what it computes is, to the bit, what the plain formula gives."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn

from tests.operators import launches
from tests.training.test_accumulation import batch
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.batch_norm import RunningStats
from tinyvit_kd.training.gradient_norm import gradient_norm
from tinyvit_kd.training.loss import plain_loss, soft_loss
from tinyvit_kd.training.meters import Meters, StepResult, finite_rows
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.state import TrainState

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def equal_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Also where both are NaN."""
    return first.dtype == second.dtype and torch.equal(first.view(torch.int32), second.view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalisation_is_one_pass_to_new_memory_and_one_in_place(dtype: torch.dtype) -> None:
    normalize = Normalizer(MEAN, STD, CPU)
    views = torch.randint(256, (4, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = views.clone()
    assert equal_bits(normalize(views), views.to(torch.float32) * normalize.scale - normalize.shift)
    assert torch.equal(views, before)
    assert launches(lambda: normalize(views)) == {"mul": 1, "sub_": 1}


def test_normalisation_lays_out_channels_last_in_the_same_pass() -> None:
    normalize = Normalizer(MEAN, STD, CPU)
    views = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    plain = normalize(views)
    normalize.memory_format = torch.channels_last
    assert normalize(views).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalize(views), plain)
    assert launches(lambda: normalize(views)) == {"mul": 1, "sub_": 1}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiled_normalisation_writes_to_no_given_output_at_which_torch_would_cut(
    memory_format: torch.memory_format,
) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    normalize = Normalizer(MEAN, STD, CPU)
    normalize.memory_format = memory_format
    views = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    found = torch.compile(lambda given: normalize(given), backend=keep, dynamic=False)(views)
    (graph,) = graphs
    assert [node.name for node in graph.graph.nodes if "out" in node.kwargs] == []
    assert found.is_contiguous(memory_format=memory_format)
    assert equal_bits(found, normalize(views))
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_checked_by_two_passes_that_write_next_to_nothing(dtype: torch.dtype) -> None:
    logits = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    logits[1, 3], logits[2, 4], logits[3, 5] = math.nan, math.inf, -math.inf
    logits[4, 0], logits[4, 1] = torch.finfo(dtype).max, torch.finfo(dtype).min
    logits[5, 0], logits[5, 1] = math.inf, math.nan
    expected = torch.isfinite(logits).all(dim=1)
    assert expected.tolist() == [True, False, False, False, True, False, True, True]
    assert torch.equal(finite_rows(logits), expected)
    assert torch.equal(finite_rows(logits[:2], logits[1:3]), torch.tensor([False, False]))
    # Two of B x C, three of B numbers; isfinite alone is four of B x C.
    assert launches(lambda: finite_rows(logits)) == {"amin": 1, "amax": 1, "gt": 1, "lt": 1, "bitwise_and": 1}


def test_without_a_limit_gradients_are_read_once_and_not_written() -> None:
    parameters = [nn.Parameter(torch.ones(3, 2)) for _ in range(5)]
    for number, parameter in enumerate(parameters[:4]):
        parameter.grad = torch.full((3, 2), 0.1 * number)
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf)
    assert equal_bits(gradient_norm(parameters, None), norm)
    counts = launches(lambda: gradient_norm(parameters, None))
    assert counts["_foreach_norm"] == 1
    assert not [name for name in counts if name.endswith("_")]
    clipped = launches(lambda: gradient_norm(parameters, 0.1))
    assert clipped["_foreach_mul_"] == 1
    assert parameters[3].grad is not None
    torch.testing.assert_close(gradient_norm(parameters, None), torch.tensor(0.1))


def straightforward(
    logits: torch.Tensor, indices: torch.Tensor, probs: torch.Tensor, residual: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """The soft loss as its docstring has it, at temperature 1."""
    logits = logits / 1.0
    stored = logits.gather(1, indices)
    absent = torch.full_like(residual, logits.shape[1] - indices.shape[1])
    tail = residual.clamp(min=0) / absent.clamp(min=1) * (absent > 0)
    others = logits.sum(dim=1) - stored.sum(dim=1)
    mass = probs.sum(dim=1) + tail * absent
    losses = mass * logits.logsumexp(dim=1) - (probs * stored).sum(dim=1) - tail * others
    return (losses * weights).sum() * (1 / len(weights))


def test_the_soft_loss_divides_no_logits_at_temperature_one() -> None:
    whole = batch()
    assert whole.targets is not None
    logits = torch.randn(12, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with_a_second_use = []  # whose gradient is added to the loss's: in another order, it would be another sum
    for loss in (
        soft_loss(logits, *whole.targets, whole.weights),
        straightforward(logits, *whole.targets, whole.weights),
    ):
        (gradient,) = torch.autograd.grad(loss + (logits * logits.detach()).sum(), logits)
        with_a_second_use.append((loss, gradient))
    (loss, gradient), (plain, plain_gradient) = with_a_second_use
    assert equal_bits(loss.detach(), plain.detach())
    assert equal_bits(gradient, plain_gradient)

    def both(temperature: float) -> Counter[str]:
        assert whole.targets is not None
        targets = whole.targets
        return launches(lambda: soft_loss(logits, *targets, whole.weights, temperature).backward())  # type: ignore[no-untyped-call]

    # One division of [B] remains; what a temperature costs on top are three of [B, C] or [B, K], and their gradient.
    assert both(1.0)["div"] == 1
    assert both(2.0)["div"] > 2
    assert both(1.0)["_to_copy"] <= 1  # of a mask [B]


def test_logits_in_bfloat16_are_converted_once_however_many_losses_there_are() -> None:
    whole = batch()
    logits = torch.randn(12, 7).bfloat16().requires_grad_()
    objective = DistillObjective(DistillLossConfig(alpha=0.5))
    copies = [launches(partial(objective, given, whole))["_to_copy"] for given in (logits, logits.float())]
    assert copies[0] == copies[1] + 1
    assert whole.labels is not None
    assert whole.mixed is not None
    labels, mixed = whole.labels, whole.mixed
    assert launches(lambda: plain_loss(logits, labels, whole.weights, 0.1, *mixed))["_to_copy"] == 1


def network_with_norms() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.BatchNorm1d(5)]
    return nn.Sequential(*layers).train()


def test_the_average_moves_as_timms_in_two_launches() -> None:
    ours, theirs = network_with_norms(), network_with_norms()
    average, reference = ModelEmaV3(ours, decay=0.9), ModelEmaV3(theirs, decay=0.9)
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in (ours, theirs)]
    state = TrainState(ours, optimizers[0], average)
    for step in range(5):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            network(inputs).square().sum().backward()
            optimizer.step()
        state.step = step
        counts = launches(state.update_average)
        assert counts == {"_foreach_lerp_": 1, "_foreach_copy_": 1}
        reference.update(theirs, step=step)
    for name, value in average.module.state_dict().items():
        assert torch.equal(value, reference.module.state_dict()[name]), name
    assert average.module.state_dict()["1.num_batches_tracked"] == 5


def test_running_statistics_are_written_by_one_launch() -> None:
    network = network_with_norms()
    stats = RunningStats(network)
    assert launches(lambda: stats.write(stats.read() + 1)) == {"cat": 1, "add": 1, "_foreach_copy_": 1}
    assert stats.read().tolist() == [1.0] * 6 + [2.0] * 6 + [1.0] * 5 + [2.0] * 5


def test_micro_batches_leave_the_statistics_that_the_plain_formula_gives() -> None:
    network, plain = network_with_norms(), network_with_norms()
    chunks = list(torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(2)))
    for chunk in RunningStats(network).over_micro_batches(chunks):
        network(chunk)
    ends = []
    for chunk in chunks:
        alone = copy.deepcopy(plain)
        alone(chunk)
        ends.append({name: buffer.double() for name, buffer in alone.named_buffers()})
    for name, buffer in network.named_buffers():
        expected = (torch.zeros_like(ends[0][name]) + ends[0][name] + ends[1][name] + ends[2][name]) / 3
        assert torch.equal(buffer, expected.to(buffer.dtype)), name


def test_meters_add_up_all_scalars_at_once() -> None:
    meters, names = Meters(CPU, lambda _step, _rows: []), ("loss", "accuracy", "grad_norm", "holes", "unlabelled")
    generator = torch.Generator().manual_seed(3)
    results = [
        StepResult({name: torch.rand((), generator=generator) for name in names}, torch.ones(4, dtype=torch.bool))
        for _ in range(4)
    ]
    for step, result in enumerate(results[:3]):
        meters.update(result, step, waited=0.0)
    counts = launches(lambda: meters.update(results[3], 3, waited=0.0))
    few = StepResult({"loss": torch.zeros(())}, torch.ones(4, dtype=torch.bool))
    alone = Meters(CPU, lambda _step, _rows: [])
    alone.update(few, 0, 0.0)
    assert counts.total() == launches(lambda: alone.update(few, 1, 0.0)).total() == 9
    read = meters.read(solo_job())
    for name in names:
        total = results[0].scalars[name]
        for result in results[1:]:
            total = total + result.scalars[name]
        assert read[name] == total.double().item() / 4
