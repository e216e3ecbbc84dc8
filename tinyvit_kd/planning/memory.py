"""Memory of a process, before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Layout
from tinyvit_kd.data.loader import steps_in_work
from tinyvit_kd.planning.networks import NetworkCost
from tinyvit_kd.planning.stage_plan import Memory
from tinyvit_kd.planning.stores import StoreFacts
from tinyvit_kd.store.codec import row_bytes

# Bytes, measured on Linux with torch 2.15: of a loading process for itself, where 13 MiB were found with small images,
# and of Python, torch and timm, which loading processes share.
_WORKER, _PROGRAM = 24 << 20, 450 << 20
_OUTSIDE = 2  # batches outside the loader, which it has buffers for


def dump_memory(config: DumpConfig, cost: NetworkCost, precision: str) -> Memory:
    """Of a process of stage one; arguments as below."""
    layout = batch_layout(config.batch_size, config.views.size)
    return scoring_memory(config.runtime, cost, layout, config.batch_size, precision)


def scoring_memory(
    runtime: RuntimeConfig, cost: NetworkCost, layout: Layout, batch_size: int, precision: str
) -> Memory:
    """Of a process in which a network is only asked; arguments as below."""
    return Memory(
        weights=cost.weight_bytes,
        activations=batch_size * int(cost.largest_bytes * _share(precision)),
        batches=_buffers(runtime, layout),
        workers=runtime.workers * _WORKER,
        program=_PROGRAM,
    )


def training_memory(
    config: TrainingConfig,
    cost: NetworkCost,
    moments: int,
    layout: Layout,
    micro_batch: int,
    precision: str,
    blocks: int,
) -> Memory:
    """Of a process of stage two or three.

    Args:
        moments: bytes of the optimiser's moments.
        layout: of a batch.
        micro_batch: views in one forward pass.
        precision: of the student.
        blocks: bytes of the cache of blocks.
    """
    return Memory(
        weights=cost.weight_bytes,
        gradients=4 * cost.trained,
        moments=moments,
        average=cost.weight_bytes if config.train.ema_decay is not None else 0,
        # The backward pass holds a layer's gradients besides, of its input and of its output.
        activations=micro_batch * int((cost.kept_bytes + 2 * cost.largest_bytes) * _share(precision)),
        batches=_buffers(config.runtime, layout),
        blocks=blocks,
        workers=config.runtime.workers * _WORKER,
        program=_PROGRAM,
    )


def cache_bytes(config: PretrainConfig, stores: Sequence[StoreFacts], plan: StepPlan) -> tuple[int, int]:
    """Bytes of a process's cache of blocks, and how many it needs so that no block is read twice at a time."""
    longest = max(plan.shard_lengths, default=1)
    blocks = plan.blocks_at_a_time(steps_in_work(config.runtime))
    needed = sum(blocks * longest * row_bytes(each.encoding, each.topk, each.num_classes) for each in stores)
    limit = config.store.block_cache_mib
    return (needed if limit is None else min(needed, limit << 20)), needed


def _buffers(runtime: RuntimeConfig, layout: Layout) -> int:
    return (runtime.workers * runtime.prefetch + _OUTSIDE) * layout.nbytes


def _share(precision: str) -> float:
    """Of float32's bytes: autocast leaves norms and softmax in float32, and keeps the rest in half of it."""
    return 1.0 if precision == "float32" else 0.5
