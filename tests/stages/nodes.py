"""Several machines, as torchrun sees them: agents on loopback, or in network namespaces with a cable between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_injection.proc import children
from benchmarks.loopback import LOOPBACK
from tests.processes import wait_until
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

# torchrun itself: how long it waits for more machines once there are enough, and when it takes one for dead.
CONF = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=8"


def descendants(pid: int) -> list[int]:
    """A process and all that it and they have started."""
    with suppress(OSError):
        return [pid, *(each for child in children(pid) for each in descendants(child))]
    return [pid]


@dataclass
class Agent:
    """A torchrun with its processes: a machine.

    Attributes:
        log: what all of them print.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """End the agent with all its processes, as a machine that loses power does."""
        for pid in descendants(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def said(self, words: str) -> bool:
        """Whether it, or a process of its, has printed these words."""
        return words in self.log.read_text(errors="replace")

    def await_words(self, words: str, seconds: float = 120) -> float:
        """Wait until it has printed these words; returns the seconds that it took."""
        begin = time.monotonic()
        wait_until(lambda: self.said(words), f"nobody said {words!r}:\n{self.log.read_text()[-3000:]}", seconds)
        return time.monotonic() - begin


@dataclass
class Nodes:
    """Agents of one job.

    Args:
        folder: for their logs.
        program: what torchrun starts, with its arguments.
        launcher: what Python runs as torchrun.
    """

    folder: Path
    program: list[str]
    launcher: tuple[str, ...] = ("-m", "torch.distributed.run")
    agents: list[Agent] = field(default_factory=list)

    def start(self, *options: str, node: Namespace | None = None) -> Agent:
        """Start an agent with these options, on loopback or in a namespace."""
        prefix = () if node is None else ("ip", "netns", "exec", node.name)
        environment: dict[str, str] = {} if node is None else {"GLOO_SOCKET_IFNAME": node.link}
        log = self.folder / f"agent-{len(self.agents)}.log"
        command = [*prefix, sys.executable, *self.launcher, *options, *self.program]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
                start_new_session=True,
            )
        self.agents.append(Agent(process, log))
        return self.agents[-1]

    def said(self, words: str) -> bool:
        """Whether any agent, or a process of one, has printed these words; which one has rank 0, torchrun decides."""
        return any(agent.said(words) for agent in self.agents)

    def wait(self, seconds: float = 240) -> None:
        """Wait until all agents that were not killed have ended well."""
        for agent in self.agents:
            if agent.process.returncode != -signal.SIGKILL:
                assert agent.process.wait(seconds) == 0, agent.log.read_text()[-3000:]

    def kill(self) -> None:
        """End whatever still runs."""
        for agent in self.agents:
            if agent.process.poll() is None:
                agent.kill()


@contextmanager
def nodes(folder: Path, *program: str) -> Iterator[Nodes]:
    """Agents that are gone after the context."""
    job = Nodes(folder, list(program))
    try:
        yield job
    finally:
        job.kill()


def elastic(count: str, port: int, address: str = LOOPBACK, host: str = LOOPBACK, conf: str = "") -> tuple[str, ...]:
    """Options of an agent that meets others at a host's port.

    Args:
        count: of agents, ``2`` or ``1:4``.
        address: of this agent.
        conf: further settings of the rendezvous.
    """
    return (
        *("--nnodes", count, "--nproc_per_node", "1", "--max-restarts", "20", "--rdzv_id", "job"),
        *("--rdzv_backend", "c10d", "--rdzv_endpoint", f"{host}:{port}", "--local_addr", address),
        *("--rdzv_conf", f"{CONF},{conf}" if conf else CONF),
    )


def newest_step(run: Path) -> int:
    """The step of a run's newest checkpoint; 0 if there is none."""
    newest = checkpoints(run / CHECKPOINTS)
    return int(newest[0].stem.rpartition("-")[2]) if newest else 0


def await_step(run: Path, step: int, seconds: float = 180) -> float:
    """Wait until a run has a checkpoint of this step or a later one; returns the seconds that it took."""
    begin = time.monotonic()
    wait_until(lambda: newest_step(run) >= step, f"it did not come to step {step}", seconds)
    return time.monotonic() - begin


@dataclass(frozen=True)
class Namespace:
    """A network namespace, with its end of the cable."""

    name: str
    address: str
    link: str


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def why_no_namespaces() -> str:
    """Why network namespaces cannot be made here; empty if they can."""
    name = f"probe{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except FileNotFoundError:
        return "there is no ip (iproute2)"
    except subprocess.CalledProcessError as error:
        return f"ip netns add: {error.stderr.decode(errors='replace').strip()}"
    return ""


@contextmanager
def two_namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Two network namespaces, joined by a veth pair."""
    own = os.getpid()
    both = [Namespace(f"node{number}-{own}", f"10.77.0.{number}", f"v{number}-{own}") for number in (1, 2)]
    first, second = both
    try:
        for each in both:
            _ip("netns", "add", each.name)
        _ip("link", "add", first.link, "netns", first.name, "type", "veth", "peer", second.link, "netns", second.name)
        for each in both:
            _ip("-n", each.name, "addr", "add", f"{each.address}/24", "dev", each.link)
            for link in ("lo", each.link):
                _ip("-n", each.name, "link", "set", link, "up")
        yield first, second
    finally:
        for each in both:
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", each.name)


def cut(node: Namespace) -> None:
    """Pull the cable at one end: from now on nothing arrives, and no connection is reset."""
    _ip("-n", node.name, "link", "set", node.link, "down")


def mend(node: Namespace) -> None:
    """Put the cable back."""
    _ip("-n", node.name, "link", "set", node.link, "up")
