"""Machines are described as Linux describes them under /sys, whole or in part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.machines import make_sys
from tinyvit_kd.runtime.topology import Topology, as_list, parse_list, pci_node, read_topology


def test_nodes_cores_and_their_threads_are_read(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0-3,8-11", 1: "4-7,12-15"}, threads_apart=8)
    assert read_topology(range(16), tmp_path) == Topology(
        {0: ((0, 8), (1, 9), (2, 10), (3, 11)), 1: ((4, 12), (5, 13), (6, 14), (7, 15))}
    )


def test_only_what_may_be_used_counts(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0-3,8-11", 1: "4-7,12-15"}, threads_apart=8)
    topology = read_topology({2, 10, 11}, tmp_path)
    assert topology == Topology({0: ((2, 10), (11,))})
    assert topology.threads == {2, 10, 11}


def test_where_nothing_is_said_each_thread_is_a_core_of_node_0(tmp_path: Path) -> None:
    assert read_topology({1, 0}, tmp_path) == Topology({0: ((0,), (1,))})


def test_nodes_of_memory_alone_have_no_cores(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0-1", 1: "\n", 10: "2-3"}, threads_apart=0)
    assert read_topology(range(4), tmp_path) == Topology({0: ((0,), (1,)), 10: ((2,), (3,))})


def test_the_node_of_a_device_is_that_of_its_file(tmp_path: Path) -> None:
    make_sys(tmp_path, nodes={0: "0"}, threads_apart=0, devices={"0000:3b:00.0": 1, "0000:5e:00.0": -1})
    assert pci_node("0000:3b:00.0", tmp_path) == 1
    assert pci_node("0000:5e:00.0", tmp_path) is None
    assert pci_node("0000:86:00.0", tmp_path) is None


@pytest.mark.parametrize(("text", "numbers"), [("0-3,8\n", {0, 1, 2, 3, 8}), ("", set()), ("7", {7}), ("0,2", {0, 2})])
def test_lists_are_as_linux_writes_them(text: str, numbers: set[int]) -> None:
    assert parse_list(text) == numbers
    assert as_list(numbers) == text.strip()
