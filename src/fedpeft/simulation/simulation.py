"""A federated run on one machine: rounds over a population of simulated clients."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedpeft.backbones import Backbone
from fedpeft.client import Pipeline, Replica, client_round
from fedpeft.data.dataset import Histories, Split
from fedpeft.errors import ConfigError, RunError, renamed
from fedpeft.graph.expansion import expansion_of
from fedpeft.graph.pseudo import mask_of
from fedpeft.protocol.messages import (
    NOTHING,
    Broadcast,
    Snapshot,
    Upload,
)
from fedpeft.protocol.traffic import RoundTraffic, Traffic
from fedpeft.server import Server, ServerState
from fedpeft.server.admission import Admission
from fedpeft.server.catch_up import download_bytes
from fedpeft.server.round import needed
from fedpeft.server.sizes import message_sizes
from fedpeft.simulation.backend import BACKENDS, Backend, choose
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.simulation.inference import Inference, inference
from fedpeft.simulation.population import Population
from fedpeft.simulation.problem import LocalProblem
from fedpeft.simulation.work import Work
from fedpeft.training.task import SemanticIDs, Task, item_payload

GIVE_UP_AFTER = 10
"""Rounds in a row, none of whose uploads is finite, after which a run ends."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run executes; nothing here changes what it computes.

    Attributes
    ----------
    device
        `auto` is CUDA when there, the CPU otherwise.
    backend
        `auto` takes the fastest backend the settings allow.
    """

    device: str = "auto"
    backend: Backend | Literal["auto"] = "auto"

    def torch_device(self) -> torch.device:
        """Return the device; raises `ConfigError` when it is unknown or absent."""
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
            usable = device.type in ("cpu", "cuda")
        except (RuntimeError, AssertionError):
            usable = False
        if not usable:
            raise ConfigError(f"device {self.device!r} is not here; use auto, cpu or cuda")
        return device


RunOptions.__init__ = renamed(plan="backend")(RunOptions.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True)
class RoundResult:
    """What one round did."""

    entry: RoundTraffic
    loss: float


class Simulation:
    """Simulates a population of clients and their server.

    The server and the clients share nothing but the task: a replica of the model follows the
    server by messages, and every client scores and trains on that replica.

    Parameters
    ----------
    task
        What the run has agreed on.
    split
        Leave-one-out split; only its train part is used.
    base
        float32 (n, k): the pretrained base embedding.
    options
        Where and how it executes.
    semantic_ids
        Codes from item text, for adapters that want them.
    texts
        float (n, D): the items' encoded texts, for a server that reads them.
    coded
        The base as clients download it, where codes stand for its rows.

    Examples
    --------
    >>> simulation = Simulation(...)                                        # doctest: +SKIP
    >>> for _ in range(100): simulation.step()                              # doctest: +SKIP
    """

    @renamed(semantic_codes="semantic_ids")
    def __init__(
        self,
        task: Task,
        split: Split,
        base: Tensor,
        options: RunOptions,
        *,
        semantic_ids: SemanticIDs | None = None,
        texts: Tensor | None = None,
        coded: bytes | None = None,
    ) -> None:
        device = options.torch_device()
        self.options = options
        self.task, self.training = task, task.training
        self.replica = Replica(self.task, device)
        self.population = Population(
            split.train, self.replica.backbone, seed=task.seed, device=device
        )
        self.expansion = expansion_of(
            self.replica.backbone, task.loss, split.train, split.n_items, task.seed
        )
        self.pipeline = Pipeline(self.task, mask_of(self.expansion))
        self.task.check(self.replica.backbone, self.pipeline.transforms)
        self.admission = Admission(self.task, self.pipeline.transforms)
        self.backend: Backend = choose(options.backend, self.training, self.pipeline)
        self.sampler = CohortSampler.of(task, split.train, share=self.training.cohort)
        self.sampler.check()
        self.server = Server(
            self.task,
            semantic_ids=semantic_ids,
            texts=texts,
            device=device,
        )
        self.state: ServerState = self.server.start(base, coded)
        self.problem = LocalProblem(self.task, self.replica.backbone)
        self.traffic = Traffic(split.n_users)
        self.in_vain = 0
        self.follow()

    @property
    def round(self) -> int:
        """Number of the next round."""
        return self.state.round

    def step(self) -> RoundResult:
        """Run the next round.

        Raises
        ------
        RunError
            If no upload of many rounds in a row was finite.
        """
        self.traffic.forget()  # what a round that was broken off had counted
        self.state, event = self.server.begin(self.state)
        self.follow()
        self._expand()
        work, state = self._work()
        rows = work.cohort.rows
        total = BACKENDS[self.backend](work)
        self.traffic.sent("download", len(rows) * self.server.broadcast_size(state))
        if state.phase == "adapt":
            first, missed = download_bytes(self.server, state, self.population.held[rows])
            self.traffic.sent("initial_download", first)
            self.traffic.sent("resync", missed)
            self.population.held[rows] = state.version
        after = self.server.step(state, total)
        stuck = total.weight > 0 and after.payload is state.payload
        self._watch(len(rows) > 0 and (not total.clients or stuck))
        self.state = after
        entry = self.traffic.close(state.round, state.phase, len(rows), total.rejected, event)
        return RoundResult(entry, total.loss)

    def upload_of(self, row: int) -> Upload:
        """Return what one client sends in the next round, through `client_round`.

        The round is begun by it, but not run; the client's own state stays as it was.
        """
        self.traffic.forget()
        self.state, _ = self.server.begin(self.state)
        self.follow()
        self._expand()
        message, _ = self.server.broadcast(self.state)
        self.pipeline.begin(self.state.round, self.replica.backbone)
        return client_round(self.replica, self.pipeline, self.population.state(row), message)[0]

    def follow(self) -> None:
        """Bring the replica to the server's version, by the messages that a client would fetch."""
        if self.replica.lineage == self.state.lineage:
            return
        if self.state.lineage == NOTHING:
            self.replica.begin()
            return
        known = self.replica.version >= self.state.first.version
        held = self.replica.version if known else None
        for message in self.server.catch_up(self.state, held):
            if isinstance(message, Snapshot):
                self.replica.install(message)
            else:
                self.replica.follow(message)

    def _work(self) -> tuple[Work, ServerState]:
        """Return the work of the round, and the server's state after its broadcast."""
        number, message = self.state.round, None
        if self.backend == "sequential":
            message, state = self.server.broadcast(self.state)
            message = Broadcast.from_bytes(message.to_bytes())
            received = self.replica.receive(message)
        else:
            received, state = self.server.received(self.state)
        self.replica.hold(received)
        self.pipeline.begin(number, self.replica.backbone)
        self.problem.begin(number)
        work = Work(
            self.problem,
            self.replica,
            self.pipeline,
            self.admission,
            self.population,
            self.sampler.draw(number),
            self.traffic,
            message,
        )
        return work, state

    def _expand(self) -> None:
        """Renew the clients' neighbours if it is time to."""
        number, expansion = self.state.round, self.expansion
        if expansion is None or number == 0 or number % expansion.config.every:
            return
        name = self.replica.backbone.user_vector
        assert name is not None  # every backbone that expands has one
        run = expansion.exchange if self.backend == "sequential" else expansion.run
        self.population.local["neighbours"] = run(self.population.local[name], number, self.traffic)

    def _watch(self, in_vain: bool) -> None:
        """Raise `RunError` where nothing can be learnt any more."""
        self.in_vain = self.in_vain + 1 if in_vain else 0
        if self.in_vain >= GIVE_UP_AFTER:
            self._give_up(self.round)

    def require_learning(self) -> None:
        """Raise `RunError` if no upload of the last round, or of more before it, was finite."""
        self._give_up(self.round - 1)

    def _give_up(self, last: int) -> None:
        if self.in_vain:
            raise RunError(
                f"no upload of {self.in_vain} rounds in a row was finite, up to round "
                f"{last}; lower the learning rates (training.server_optimizer.lr, "
                "training.local_optimizer.lr)"
            )

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """Return the item vectors that clients hold, float32 (n, k)."""
        return self.replica.backbone.item.merge(item_payload(self.server.final(self.state)))

    def final_backbone(self) -> Backbone:
        """Return a copy of the one-client module, with the payload that clients hold now."""
        self.replica.hold(self.server.final(self.state))
        return copy.deepcopy(self.replica.backbone)

    def bytes_summary(self) -> dict[str, float]:
        """Return the `bytes` table of a result."""
        sizes = message_sizes(self.task, self.replica.backbone)
        totals = self.traffic.totals
        varying = totals.upload / max(1, totals.participations)
        upload = varying if sizes.upload is None else sizes.upload
        first = self.state.first.nbytes if needed(self.state.first) else 0
        return self.traffic.summary(upload, sizes.download, first)

    def scorer(self, histories: Histories) -> Inference:
        """Return a function from user indices, int64 (b,), to scores of all items, float (b, n).

        Users score as their own device would: with the payload as received now, and what
        `training.inference` makes of it.

        Parameters
        ----------
        histories
            What each device knows when it scores; see `Split.before`.
        """
        with torch.inference_mode(False):
            backbone = self.final_backbone()
        clients = self.population
        return inference(self.task, backbone, clients.local, histories, clients.ids, self.round)
