"""What is compared, and at which size: adapters that can be built without holding their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fedpeft.adapters import AdapterConfig, ItemContext, ItemEmbedding, adapters
from fedpeft.backbones import Backbone
from fedpeft.errors import ConfigError, FedpeftError
from fedpeft.items import BaseCodesConfig
from fedpeft.items.coded import coded_bytes
from fedpeft.losses import losses
from fedpeft.seeding import torch_rng
from fedpeft.training import EncodingName, TrainingConfig
from fedpeft.training.task import Task


@dataclass(frozen=True)
class Scale:
    """The sizes that costs depend on.

    Attributes
    ----------
    items, dim
        n and k: the item table.
    clients
        Population over which a run's bytes are averaged.
    touched
        b, items that one client handles in a training step.
    seed
        Seed of cohorts, and of everything that is drawn to be measured.
    """

    items: int
    dim: int
    clients: int
    touched: int
    seed: int = 0


@dataclass(frozen=True)
class Strategy:
    """One way to hold the item table, and how it is trained.

    Attributes
    ----------
    label
        What tables call it.
    kind, adapter
        The adapter's registered name and settings.
    training
        Rounds, warm-up, refresh, server optimiser.
    make_backbone
        Builds the one-client module around an item embedding.
    base_codes
        How the pretrained base is coded, if it is.
    """

    label: str
    kind: str
    adapter: AdapterConfig
    training: TrainingConfig
    make_backbone: Callable[[ItemEmbedding], Backbone]
    base_codes: BaseCodesConfig | None = None

    @property
    def trainable(self) -> bool:
        """Whether the server's optimiser goes with the adapter."""
        return self.adapter.spans or self.training.server_optimizer.kind != "newton"

    def base_bytes(self, scale: Scale) -> int | None:
        """Return the bytes of the pretrained base where codes stand for it."""
        if self.base_codes is None:
            return None
        return coded_bytes(scale.items, scale.dim, self.base_codes.levels, self.base_codes.codes)

    def task(self, scale: Scale, upload: EncodingName, download: EncodingName) -> Task:
        """Return what a run of this strategy would agree on, with these encodings."""
        ways = {"encoding": upload, "download_encoding": download}
        return Task(
            self.make_backbone,
            losses.get("bpr").build(losses.get("bpr").config()),  # sizes depend on no loss
            self.kind,
            self.adapter,
            self.training.model_copy(update=ways),
            scale.items,
            scale.dim,
            scale.seed,
        )

    def build(
        self, base: Tensor, seed: int, *, warmup: bool = False, derive: bool = False
    ) -> Backbone:
        """Return one client's module on a base, float32 (n, k), as a server would build it.

        Codes are drawn unless they are to be derived from the base: that is the server's work, and
        bytes and time depend on their number alone.
        """
        part = adapters.get("full" if warmup else self.kind)
        config = part.config() if warmup else self.adapter
        assert isinstance(config, AdapterConfig)
        frozen = None
        if derive:
            config = config.without_text()
        else:
            frozen = config.drawn(len(base), torch_rng(seed, "cost", "codes"))
        return self.make_backbone(part.build(config, ItemContext(base, seed, frozen=frozen)))

    def sketch(self, scale: Scale, *, warmup: bool = False) -> Backbone:
        """Return the module with shapes but no values; call it within `shapes_only`."""
        return self.build(torch.empty(scale.items, scale.dim), scale.seed, warmup=warmup)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within the block tensors have shapes and no memory, so a table of any size can be asked.

    Raises
    ------
    ConfigError
        If something cannot be told from shapes, as an adapter of another package may need values.
    """
    try:
        with FakeTensorMode():
            yield
    except FedpeftError:
        raise
    except Exception as error:  # whatever foreign code does with a tensor that has no values
        said = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"costs cannot be told from shapes: {type(error).__name__}: {said}"
        ) from error
