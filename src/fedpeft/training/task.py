"""The task: what the server and every client of a run have agreed on before the first round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedpeft.adapters import AdapterConfig, ItemContext, ItemEmbedding, adapters
from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.errors import ConfigError
from fedpeft.losses import Loss
from fedpeft.protocol.encodings import CODECS, Codec, Shapes
from fedpeft.protocol.histories import HistoryUpload
from fedpeft.protocol.layout import UploadCodec
from fedpeft.protocol.statistics import MOMENT, WEIGHTS, MomentForm
from fedpeft.protocol.uploads import FORMS, check_item_indexed, upload_codec
from fedpeft.seeding import sequence
from fedpeft.tensors import Tensors
from fedpeft.training.config import Phase, TrainingConfig
from fedpeft.transforms import UpdateTransform, build_transforms

SemanticIDs = Callable[[int, int], Tensor]
"""``(levels, codes) -> int64 (n, levels)``: codes from item text."""


def no_user_vector(backbone: str) -> ConfigError:
    """Return what is wrong with a loss over all items for a backbone of this name."""
    return ConfigError(
        "the loss sums over all items, which needs a score linear in the item vector; "
        f"{backbone} has none: choose loss.kind softmax, bpr or bce"
    )


@dataclass(frozen=True, eq=False)
class Task:
    """What both sides know: parts and settings, sizes, and the seed of what is drawn.

    Attributes
    ----------
    make_backbone
        Builds the one-client module around an item embedding.
    loss
        The one-client loss.
    kind, adapter
        The registered name and the settings of the adapter of the adapt phase.
    training
        Settings of the run, resolved.
    n_items, dim
        n and k.
    seed
        Names every stream of random numbers.
    """

    make_backbone: Callable[[ItemEmbedding], Backbone]
    loss: Loss
    kind: str
    adapter: AdapterConfig
    training: TrainingConfig
    n_items: int
    dim: int
    seed: int

    @cached_property
    def broadcast_codec(self) -> Codec:
        """The encoding of what the server sends."""
        return CODECS[self.training.broadcast_encoding]()

    @cached_property
    def update_codec(self) -> Codec:
        """The encoding of what clients send."""
        return CODECS[self.training.encoding]()

    @property
    def first_phase(self) -> Phase:
        """The phase that the run begins in."""
        return "warmup" if self.training.warmup_rounds else "adapt"

    def phase_of(self, version: int) -> Phase:
        """Return the phase in which clients hold this version of the base."""
        return self.first_phase if version == 0 else "adapt"

    def adapter_at(self, version: int) -> tuple[str, AdapterConfig]:
        """Return name and settings of the adapter at a version: the full table in the warm-up."""
        if self.phase_of(version) == "adapt":
            return self.kind, self.adapter
        config = adapters.get("full").config()
        assert isinstance(config, AdapterConfig)
        return "full", config

    def item(
        self,
        version: int,
        base: Tensor,
        *,
        frozen: Mapping[str, Tensor] | None = None,
        semantic_ids: SemanticIDs | None = None,
    ) -> ItemEmbedding:
        """Return the item embedding of a version on its base.

        Parameters
        ----------
        base
            float32 (n, k).
        frozen
            Frozen tensors of the subspace, as a server made them; None makes a new subspace.
        semantic_ids
            Codes from item text, for adapters that want them.

        Raises
        ------
        ArtifactError
            If the frozen tensors are not those of such an adapter.
        """
        kind, config = self.adapter_at(version)
        drawn, turn = divmod(version, config.cycle(self.dim))
        seed = int(sequence(self.seed, "subspace", drawn).generate_state(1)[0])
        context = ItemContext(base, seed, semantic_ids, frozen, turn=turn)
        item = adapters.get(kind).build(config, context)
        if frozen is not None:
            item.load_frozen(frozen)
        return item

    def pipeline(self, *masks: UpdateTransform) -> list[UpdateTransform]:
        """Return the transforms of a client's change, in order; `masks` come first."""
        return [*masks, *build_transforms(self.training.transforms, self.seed)]

    def uploads(self, shapes: Shapes, item: ItemEmbedding) -> UploadCodec:
        """Return how the change of a payload of these shapes is sent."""
        sent, training = self.sent(shapes, item), self.training
        if self.tells_histories:
            span = item.span()
            assert span is not None  # settings are checked
            return HistoryUpload(self.update_codec, sent, span.columns)
        indexed = {f"item.{name}" for name in item.item_indexed}
        return upload_codec(training.upload, self.update_codec, sent, indexed, training.actions)

    def sent(self, shapes: Shapes, item: ItemEmbedding) -> Shapes:
        """Return names and shapes of what a client sends for a payload of these shapes."""
        if not self.splits:
            return shapes
        sent = {**shapes, MOMENT: torch.Size((self.moment_form(item).size,))}
        return {**sent, WEIGHTS: torch.Size((self.n_items,))} if self.tells_histories else sent

    def moment_form(self, item: ItemEmbedding) -> MomentForm:
        """Return how the second moments of readers travel."""
        span = item.span()
        # an average over rounds outlives the subspace, and a history tells the whole reader
        whole = self.training.server_optimizer.momentum > 0 or self.tells_histories
        return MomentForm.of(self.dim, None if span is None or whole else span.columns)

    @property
    def weighs_samples(self) -> bool:
        """Whether a client weighs as much as it has train items; if not, all weigh 1."""
        return self.loss.weighting == "samples"

    def weights(self, lengths: Tensor) -> Tensor:
        """Return the weights of clients with so many train items, float32 (C,) of int64 (C,)."""
        counts = lengths.float()
        return counts if self.weighs_samples else torch.ones_like(counts)

    @property
    def splits(self) -> bool:
        """Whether clients send the second moment of their reader beside the change of their own
        items, from which the server finds what all other items do; see `fedpeft.server.newton`."""
        return self.training.server_optimizer.kind == "newton"

    @property
    def layout(self) -> type[UploadCodec]:
        """How a client's change is laid out."""
        return HistoryUpload if self.tells_histories else FORMS[self.training.upload]

    @property
    def tells_histories(self) -> bool:
        """Whether uploads spell out what each client has; see `fedpeft.protocol.histories`."""
        return self.splits and self.training.upload == "rank_one"

    @property
    def own_items_decay(self) -> float:
        """lambda of the part of the items' penalty that clients add themselves: 0 where the server
        adds it, as uploads tell it their items."""
        return 0.0 if self.tells_histories else self.frequency_decay

    @property
    def frequency_decay(self) -> float:
        """lambda of the frequency-scaled penalty; raises `ConfigError` where it is still open."""
        found = self.training.frequency_decay
        if found == "auto":
            raise ConfigError(
                "training.frequency_decay is not set; give a number, or resolve the settings with "
                "data"
            )
        return found

    def local_decay(self, weight: Tensor) -> Tensor:
        """Return the L2 penalty of local parameters, float (...), for item weights (..., L)."""
        training = self.training
        everything = self.loss.unobserved_weight * self.n_items
        return training.local_decay + self.frequency_decay * (weight.sum(-1) + everything)

    def check(self, backbone: Backbone, transforms: list[UpdateTransform]) -> None:
        """Raise `ConfigError` where the parts and the settings do not go together."""
        training = self.training
        if self.loss.unobserved_weight and backbone.user_vector is None:
            raise no_user_vector(type(backbone).__name__)
        if training.local == "solve" and not self.loss.least_squares:
            raise ConfigError(
                "training.local = 'solve' needs loss.kind = 'ials'; "
                "use training.local = 'gradient' with other losses"
            )
        if self.adapter.mode == "compress" and training.refresh_every:
            raise ConfigError(
                f"training.refresh_every = {training.refresh_every} merges adapters into a base, "
                "which adapter.mode = 'compress' does not have; set it to 0 or use mode 'peft'"
            )
        if self.splits or self.frequency_decay:
            _check_least_squares(self, backbone)
        if training.upload != "dense":
            _check_upload(self, backbone, transforms)


def _check_least_squares(task: Task, backbone: Backbone) -> None:
    """Raise `ConfigError` where settings for least squares cannot be used."""
    training = task.training
    if not task.loss.least_squares:
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' and training.frequency_decay need a loss "
            "that sums squares over a client's items: loss.kind = 'ials'"
        )
    if not task.splits:
        return
    if not task.adapter.spans:
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' needs an adapter that is linear in one "
            f"tensor, which {task.adapter.label()} is not; LoRA is with adapter.basis = 'random', "
            "and hash with adapter.pooling = 'mean'"
        )
    if training.inference == "personalise":
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' leaves the payload's steps to the server, "
            "so training.inference = 'personalise' has none to take; use 'fit' or 'stored'"
        )
    if backbone.shared():
        raise ConfigError(
            f"training.server_optimizer.kind = 'newton' moves item tensors only, and "
            f"{type(backbone).__name__} shares others"
        )
    if training.item_decay:
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' has no item_decay; use frequency_decay, or "
            "server_optimizer.prior"
        )
    one_step = training.payload_steps == 1 and training.payload_optimizer.kind == "sgd"
    if not one_step or training.payload_optimizer.lr != 1 or training.joint:
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' asks clients for a gradient: it needs "
            "payload_steps = 1, an SGD step of rate 1 on the payload, and joint = false"
        )
    if training.warmup_rounds and training.warmup_optimizer is not None:
        raise ConfigError(
            "training.server_optimizer.kind = 'newton' holds in the warm-up too, as clients send "
            "the same in both phases; leave training.warmup_optimizer out"
        )


def _check_upload(task: Task, backbone: Backbone, transforms: list[UpdateTransform]) -> None:
    """Raise `ConfigError` where an upload could not be laid out as asked without a loss."""
    training, asked = task.training, f"training.upload = {task.training.upload!r}"
    if any(transform.dense for transform in transforms):
        raise ConfigError(
            f"{asked} leaves out values that a transform of the run fills in; use 'dense'"
        )
    if training.upload == "rows" and task.loss.unobserved_weight:
        raise ConfigError(
            f"{asked} has no row to leave out with a loss over all items; use 'dense', or "
            "loss.kind softmax, bpr or bce"
        )
    indexed = getattr(adapters.get(task.kind).build, "item_indexed", True)
    check_item_indexed(training.upload, indexed)
    if training.upload != "rank_one":
        return
    one_step = training.payload_steps == 1 and training.payload_optimizer.kind == "sgd"
    linear = backbone.user_vector is not None and not isinstance(backbone, HistoryBackbone)
    if not (one_step and linear and task.adapter.linear and not backbone.shared()):
        raise ConfigError(
            f"{asked} needs changes of rank one: one SGD step on the payload, a score that is the "
            "item vector times one user vector, and an adapter that is linear in its tensors; "
            "use 'dense'"
        )
    if task.own_items_decay:
        raise ConfigError(
            f"{asked} needs changes of rank one, which training.frequency_decay makes longer; use "
            "'dense', or server_optimizer.kind = 'newton'"
        )
    if task.splits and not indexed:
        raise ConfigError(
            f"{asked} tells items apart by their rows with server_optimizer.kind = 'newton', but "
            "the adapter has no tensor with one row per item; use 'dense'"
        )


def payload_shapes(backbone: Backbone) -> Shapes:
    """Return names and shapes of the tensors that travel in each round."""
    return {name: p.shape for name, p in payload_parameters(backbone).items()}


def payload_parameters(backbone: Backbone) -> dict[str, torch.nn.Parameter]:
    """Return the live parameters that travel: the item embedding's and the shared ones."""
    return {n: p for n, p in backbone.named_parameters() if n not in backbone.local}


def item_payload(payload: Mapping[str, Tensor]) -> Tensors:
    """Return the item embedding's part of a payload, by the names the embedding has for it."""
    return {
        name.removeprefix("item."): tensor
        for name, tensor in payload.items()
        if name.startswith("item.")
    }
