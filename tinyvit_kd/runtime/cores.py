"""Which cores the main process and its loading processes are to run on: a pure function of the machine."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from tinyvit_kd.runtime.topology import Topology, as_list
from tinyvit_kd.runtime.wording import counted

_Core = tuple[int, ...]  # hardware threads of a physical core


@dataclass(frozen=True)
class Cores:
    """Hardware threads of one rank.

    Attributes:
        main: those of the main process.
        workers: that of each loading process.
        node: the NUMA node near which they were looked for; None: there was none to prefer.
    """

    main: frozenset[int]
    workers: tuple[int, ...]
    node: int | None

    def describe(self) -> str:
        """A line for the user."""
        used = set(self.workers)
        near = "" if self.node is None else f" (NUMA node {self.node}, the GPU's, first)"
        pinned = f"{counted(len(self.workers), 'worker')} pinned to {_named(used)}"
        if len(self.workers) > len(used):
            most = -(-len(self.workers) // len(used))
            return (
                f"{pinned}{near}, up to {most} on each, as there are no more cores; lower runtime.workers. The main "
                f"process shares {_named(self.main)} with them"
            )
        verb = "shares" if self.main & used else "keeps"
        return f"{pinned}{near}; the main process {verb} {_named(self.main)}"


def share_cores(topology: Topology, homes: Sequence[int | None], rank: int, workers: int) -> Cores:
    """The cores of one of the ranks on a machine.

    The physical cores of each node are shared out among the ranks whose home it is; those of nodes that are nobody's
    home, among all. Where a rank's home is not known, or none of its cores may be used, ranks have no homes. A rank
    takes cores of other nodes only if those at home do not do, and second threads of cores after all first ones. The
    main process has a physical core of its own and what workers leave at home, if there are more threads than workers.

    Args:
        topology: the cores that this machine's ranks may use; there is at least one.
        homes: the NUMA node of each rank's GPU, in the order of local ranks; None: not known.
        rank: the local rank.
        workers: loading processes of each rank.
    """
    at_home = all(home in topology.nodes for home in homes)
    near, far = _shares(topology, list(homes) if at_home else [None] * len(homes), rank)
    usable = near if len(_threads(near)) > workers else near + far
    threads = _threads(usable)
    if workers < len(threads):
        mains = usable[0]
        candidates = [thread for thread in threads if thread not in mains] + list(mains[1:])
        chosen = candidates[:workers]
        main = frozenset(_threads(near)) - set(chosen)
    else:
        chosen = [threads[worker % len(threads)] for worker in range(workers)]
        main = frozenset(_threads(near))
    return Cores(main, tuple(chosen), homes[rank] if at_home else None)


def _named(threads: Set[int]) -> str:
    return f"{'core' if len(threads) == 1 else 'cores'} {as_list(threads)}"


def _shares(topology: Topology, homes: Sequence[int | None], rank: int) -> tuple[list[_Core], list[_Core]]:
    """A rank's physical cores at home, of which there is at least one, and those elsewhere."""
    elsewhere = [core for node, cores in topology.nodes.items() if node not in homes for core in cores]
    others = _part(elsewhere, rank, len(homes))
    home = homes[rank]
    if home is None:
        return others, []
    neighbours = [each for each, its_home in enumerate(homes) if its_home == home]
    return _part(topology.nodes[home], neighbours.index(rank), len(neighbours)), others


def _part(cores: Sequence[_Core], number: int, count: int) -> list[_Core]:
    """Part ``number`` of ``count``; if there are fewer cores than parts, several parts have the same core."""
    if len(cores) < count:
        return [cores[number % len(cores)]] if cores else []
    return list(cores[number * len(cores) // count : (number + 1) * len(cores) // count])


def _threads(cores: Sequence[_Core]) -> list[int]:
    """The first threads of all cores, then the second ones, and so on."""
    most = max((len(core) for core in cores), default=0)
    return [core[number] for number in range(most) for core in cores if number < len(core)]
