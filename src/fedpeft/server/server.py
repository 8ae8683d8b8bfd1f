"""The server: holds the payload, applies average updates, merges adapters into the base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from fedpeft.adapters import AdapterConfig, ItemContext, ItemEmbedding, adapters
from fedpeft.backbones import Backbone
from fedpeft.errors import ConfigError
from fedpeft.protocol.encodings import CODECS, Blocks, Codec, ErrorFeedback
from fedpeft.protocol.traffic import Ledger, Prices
from fedpeft.seeding import sequence, torch_rng
from fedpeft.simulation.sequential import payload_of
from fedpeft.simulation.update import Update
from fedpeft.tensors import Tensors
from fedpeft.training.config import Event, Phase, TrainingConfig

Codes = Callable[[int, int], torch.Tensor]


def price(up: Codec, down: Codec, backbone: Backbone) -> Prices:
    """Return the bytes of each message that a client's module makes, which may be a sketch."""
    shapes = {name: tensor.shape for name, tensor in payload_of(backbone).items()}
    item = backbone.item
    base = {} if item.base is None else {"base": item.base.shape}
    return Prices(
        upload=up.size(shapes),
        download=down.size(shapes),
        merged=down.size({n: shape for n, shape in shapes.items() if n.startswith("item.")}),
        base=item.base_bytes,
        encoded_base=down.size(base),
        subspace=item.subspace_bytes,
    )


class Server:
    """The server's half of a federated run.

    Parameters
    ----------
    make_backbone
        Builds the one-client module around an item embedding.
    kind, config
        The adapter of the adapt phase.
    base
        float32 (n, k): the pretrained base embedding.
    density
        Share of all user-item pairs in the train data, from the clients' counts.
    semantic_codes
        Codes from item text, for adapters that want them.
    base_bytes
        Bytes of the pretrained base as it is sent; None: float32 rows.

    Raises
    ------
    ConfigError
        If the adapter is to be merged into a base that it does not keep.
    """

    def __init__(
        self,
        make_backbone: Callable[[ItemEmbedding], Backbone],
        kind: str,
        config: AdapterConfig,
        base: torch.Tensor,
        training: TrainingConfig,
        ledger: Ledger,
        *,
        density: float,
        seed: int,
        semantic_codes: Codes | None = None,
        base_bytes: int | None = None,
    ) -> None:
        if config.mode == "compress" and training.refresh_every:
            raise ConfigError(
                f"training.refresh_every = {training.refresh_every} merges adapters into a base, "
                "which adapter.mode = 'compress' does not have; set it to 0 or use mode 'peft'"
            )
        self._kind, self._config = kind, config
        self._training = training
        self._ledger = ledger
        self._density = density
        self._seed = seed
        self._semantic_codes = semantic_codes
        self._codec = CODECS[training.broadcast_encoding]()
        self.feedback = ErrorFeedback(self._codec) if isinstance(self._codec, Blocks) else None
        self.version = 0
        self.phase: Phase = "warmup" if training.warmup_rounds else "adapt"
        self.backbone = make_backbone(self.build(self.phase, self.version, base))
        self._draw_shared()
        self._prepare()
        if self.phase == "adapt":
            self._ledger.open_version(self.prices.first(base_bytes), None)

    @property
    def item(self) -> ItemEmbedding:
        """The current item embedding."""
        return self.backbone.item

    def build(
        self, phase: Phase, version: int, base: torch.Tensor, frozen: Tensors | None = None
    ) -> ItemEmbedding:
        """Return an adapter on `base`: the full table in warm-up, the run's own after it.

        `frozen` rebuilds a saved subspace; without it a new one is made.
        """
        kind = "full" if phase == "warmup" else self._kind
        part = adapters.get(kind)
        config = part.config() if phase == "warmup" else self._config
        seed = int(sequence(self._seed, "subspace", version).generate_state(1)[0])
        return part.build(config, ItemContext(base, seed, self._semantic_codes, frozen))

    @torch.no_grad()
    def _draw_shared(self) -> None:
        """Give the backbone's shared parameters their start values, from a stream of their own."""
        shared = self.backbone.shared()
        for name, start in self.backbone.initial_shared(torch_rng(self._seed, "shared")).items():
            shared[name].copy_(start)

    def _prepare(self) -> None:
        """Set up what an item embedding needs: an optimiser, an empty residual, its prices."""
        old = getattr(self, "optimizer", None)
        self._chosen = self._training.server_optimizer_at(self.phase, self._density)
        self.optimizer = self._chosen.build(self.parameters().values())
        # shared backbone tensors live on, and so do their moments
        if isinstance(old, type(self.optimizer)):
            for parameter in self.backbone.shared().values():
                self.optimizer.state[parameter] = old.state[parameter]
        if self.feedback is not None:
            self.feedback.reset()
        self.prices = price(CODECS[self._training.encoding](), self._codec, self.backbone)

    def adopt(self, phase: Phase, version: int, item: ItemEmbedding) -> None:
        """Go on with the item embedding of a saved version."""
        self.phase, self.version = phase, version
        self.backbone.item = item
        self._prepare()

    @property
    def settings(self) -> dict[str, object]:
        """Return what the server was set up with, ready for JSON."""
        return {
            "seed": self._seed,
            "adapter": {"kind": self._kind, **self._config.model_dump(mode="json")},
            "training": self._training.model_dump(mode="json"),
        }

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return the live tensors of the payload by name."""
        local = self.backbone.local
        return {n: p for n, p in self.backbone.named_parameters() if n not in local}

    def begin(self, round_number: int) -> Event | None:
        """Merge the adapter if it is time to; return what happened."""
        event = self._training.event_at(round_number)
        if event == "warmup_end":
            self.phase = "adapt"
        elif event == "refresh":
            self._ledger.close_version(self.prices)
        if event:
            self._merge(event)
        return event

    def _merge(self, event: Event) -> None:
        """Merge the adapter, as clients know it, into the base and start a new one on it."""
        with self.as_received(final=True):
            base = self.item.merge()
        self.version += 1
        device = self.item.device
        self.backbone.item = self.build(self.phase, self.version, base.cpu()).to(device)
        self._prepare()
        self._ledger.open_version(self.prices, event)

    @contextmanager
    def as_received(self, *, final: bool = False) -> Iterator[None]:
        """Within the block the backbone holds the payload as clients receive it.

        `final` is the last payload of a subspace: it goes to all clients alike, whenever they
        fetch it, so it is encoded without error feedback.
        """
        if self._codec.lossless:
            yield
            return
        sent = payload_of(self.backbone)
        if final or self.feedback is None:
            shapes = {name: tensor.shape for name, tensor in sent.items()}
            arrived = self._codec.decode(self._codec.encode(sent), shapes)
        else:
            arrived = self.feedback.send(sent)
        self._assign(arrived)
        try:
            yield
        finally:
            self._assign(sent)

    @torch.no_grad()
    def _assign(self, tensors: Tensors) -> None:
        for name, parameter in self.parameters().items():
            parameter.copy_(tensors[name])

    def apply(self, update: Update, round_number: int) -> None:
        """Take one server step along the average update."""
        parameters = self.parameters()
        for name, parameter in parameters.items():
            parameter.grad = -update.change[name]
        if decay := self._training.decay_at(self._density, self._ledger.n_clients):
            ids = torch.arange(self.item.num_embeddings, device=self.item.device)
            penalty = decay / 2 * self.item(ids).square().sum()
            penalty.backward(inputs=list(self.item.parameters()))
        for group in self.optimizer.param_groups:
            group["lr"] = self._chosen.lr * self._schedule(round_number)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _schedule(self, round_number: int) -> float:
        """Return the factor on the server's learning rate."""
        if self._training.server_schedule == "constant":
            return 1.0
        progress = round_number / max(1, self._training.rounds)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
