"""Who runs where, on machines that are only described."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.machines import make_sys
from tinyvit_kd.runtime.cores import Cores, share_cores
from tinyvit_kd.runtime.topology import Topology, read_topology

EIGHT_GPUS = (0, 0, 0, 0, 1, 1, 1, 1)


@pytest.fixture
def large(tmp_path: Path) -> Topology:
    """Two nodes of 32 cores with two threads each: 128 threads."""
    make_sys(tmp_path, nodes={0: "0-31,64-95", 1: "32-63,96-127"}, threads_apart=64)
    return read_topology(range(128), tmp_path)


def test_eight_ranks_share_two_nodes(large: Topology) -> None:
    ranks = [share_cores(large, EIGHT_GPUS, rank, workers=14) for rank in range(8)]
    assert ranks[0] == Cores(frozenset({0, 64}), (*range(1, 8), *range(65, 72)), node=0)
    assert ranks[5] == Cores(frozenset({40, 104}), (*range(41, 48), *range(105, 112)), node=1)
    used = [thread for rank in ranks for thread in (*rank.main, *rank.workers)]
    assert sorted(used) == list(range(128))


def test_few_workers_have_physical_cores_and_the_main_process_what_is_left(large: Topology) -> None:
    cores = share_cores(large, EIGHT_GPUS, 1, workers=3)
    assert cores.workers == (9, 10, 11)
    assert cores.main == {8, 12, 13, 14, 15, *range(72, 80)}


def test_a_thread_beside_the_main_process_comes_last(large: Topology) -> None:
    cores = share_cores(large, EIGHT_GPUS, 0, workers=15)
    assert cores.workers == (*range(1, 8), *range(65, 72), 64)
    assert cores.main == {0}


def test_a_single_gpu_takes_cores_of_the_other_node_only_if_its_own_do_not_do(large: Topology) -> None:
    near = share_cores(large, [1], 0, workers=62)
    assert set(near.workers) == {*range(33, 64), *range(97, 128)}
    assert near.main == {32, 96}
    far = share_cores(large, [1], 0, workers=64)
    assert far.workers == (*range(33, 64), *range(32), 97)
    assert far.main == {32, 96, *range(98, 128)}


def test_a_machine_of_one_node_is_shared_out_in_blocks(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0-15"}, threads_apart=8)
    topology = read_topology(range(16), tmp_path)
    assert share_cores(topology, [0, 0], 0, 6) == Cores(frozenset({0, 8}), (1, 2, 3, 9, 10, 11), node=0)
    assert share_cores(topology, [0, 0], 1, 6) == Cores(frozenset({4, 12}), (5, 6, 7, 13, 14, 15), node=0)


def test_without_gpus_ranks_lie_beside_each_other_on_nodes(large: Topology) -> None:
    first, second = (share_cores(large, [None, None], rank, workers=4) for rank in range(2))
    assert first.workers == (1, 2, 3, 4)
    assert second.workers == (33, 34, 35, 36)
    assert first.main | second.main | {*first.workers, *second.workers} == large.threads
    assert first.node is None


def test_a_group_of_a_container_limits_what_is_shared_out(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0-31,64-95", 1: "32-63,96-127"}, threads_apart=64)
    topology = read_topology({4, 5, 6, 68, 40}, tmp_path)
    assert share_cores(topology, [0], 0, workers=2) == Cores(frozenset({4, 68}), (5, 6), node=0)
    assert share_cores(topology, [0], 0, workers=4) == Cores(frozenset({4}), (5, 6, 40, 68), node=0)
    # None of the GPU's own node may be used: all that may be is as good.
    assert share_cores(read_topology({4, 5, 6}, tmp_path), [1], 0, 2) == Cores(frozenset({4}), (5, 6), node=None)


def test_more_workers_than_cores_are_told_of(tmp_path: Path) -> None:
    topology = read_topology({0, 1}, tmp_path)
    cores = share_cores(topology, [None], 0, workers=5)
    assert cores == Cores(frozenset({0, 1}), (0, 1, 0, 1, 0), node=None)
    assert cores.describe() == (
        "5 workers pinned to cores 0-1, up to 3 on each, as there are no more cores; lower runtime.workers. The main "
        "process shares cores 0-1 with them"
    )


def test_the_line_says_who_runs_where(large: Topology) -> None:
    assert share_cores(large, EIGHT_GPUS, 5, workers=14).describe() == (
        "14 workers pinned to cores 41-47,105-111 (NUMA node 1, the GPU's, first); the main process keeps cores 40,104"
    )
    assert share_cores(Topology({0: ((0,), (1,))}), [None], 0, workers=2).describe() == (
        "2 workers pinned to cores 0-1; the main process shares cores 0-1"
    )


def test_more_ranks_than_cores_share_them() -> None:
    topology = Topology({0: ((0,), (1,))})
    assert [share_cores(topology, [0] * 3, rank, 1).workers for rank in range(3)] == [(0,), (1,), (0,)]


@given(
    nodes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2)), min_size=1, max_size=3),
    homes=st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=5),
    workers=st.integers(0, 20),
)
def test_on_any_machine_all_have_cores_and_share_none_that_they_need_not(
    nodes: list[tuple[int, int]], homes: list[int | None], workers: int
) -> None:
    numbers = iter(range(1000))
    topology = Topology(
        {
            node: tuple(tuple(next(numbers) for _ in range(threads)) for _ in range(cores))
            for node, (cores, threads) in enumerate(nodes)
        }
    )
    ranks = [share_cores(topology, homes, rank, workers) for rank in range(len(homes))]
    for rank in ranks:
        assert rank.main
        assert len(rank.workers) == workers
        assert rank.main | set(rank.workers) <= topology.threads
    enough = all(len(cores) >= len(homes) for cores in topology.nodes.values())
    if enough:
        sets = [rank.main | set(rank.workers) for rank in ranks]
        assert sum(map(len, sets)) == len(frozenset().union(*sets)), "no rank uses another's cores"
