"""What happens to a client's change before it is sent: transforms, its weight, its encoding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones import Backbone
from fedpeft.client.rounding import Dither
from fedpeft.protocol.aggregate import finite
from fedpeft.protocol.encodings import Blocks
from fedpeft.protocol.layout import Reduced, UploadCodec
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task, payload_shapes
from fedpeft.transforms import UpdateTransform


class Pipeline:
    """The way of a change from the end of local training to the bytes of an upload.

    Parameters
    ----------
    task
        What the run has agreed on.
    masks
        Transforms that come before those of the settings.

    Attributes
    ----------
    dense
        Whether it needs every row of item-indexed tensors, not only those a client touched.
    per_client
        Whether it needs every client's own change; if not, only their weighted sum matters.
    """

    def __init__(self, task: Task, masks: Sequence[UpdateTransform] = ()) -> None:
        self.task = task
        self.transforms = task.pipeline(*masks)
        self._blocks = isinstance(task.update_codec, Blocks)
        layout = task.layout
        # a block of an encoding spans rows, and so does an action
        spans_rows = layout.form != "rows" and (self._blocks or not layout.lossless)
        self.dense = spans_rows or any(transform.dense for transform in self.transforms)
        lossless = layout.lossless and task.update_codec.lossless
        self.per_client = bool(self.transforms) or not lossless

    def begin(self, round_number: int, backbone: Backbone) -> None:
        """Begin a round, in which this module's payload travels."""
        item: ItemEmbedding = backbone.item
        for transform in self.transforms:
            transform.begin(round_number, item)
        self.uploads: UploadCodec = self.task.uploads(payload_shapes(backbone), item)
        self.dither = Dither(self.task.seed, round_number) if self._blocks else None

    def transform(self, change: Tensors, ids: Tensor, weights: Tensor) -> Tensors:
        """Return the weighted, transformed changes of C clients, name -> float32 (C, ...).

        Parameters
        ----------
        change
            name -> float32 (C, ...).
        ids
            int64 (C,).
        weights
            float32 (C,).
        """
        for transform in self.transforms:
            change = transform.on_user(change, ids)
        if bool((weights == 1).all()):
            return change
        return {n: t * weights.view(-1, *[1] * (t.dim() - 1)) for n, t in change.items()}

    def encode(self, change: Tensors, client: int, rows: Tensor) -> bytes:
        """Return the payload of one client's upload.

        Parameters
        ----------
        change
            name -> float32, the shape of the payload; transformed and weighted.  If a value is not
            finite, none is sent: a narrow encoding would pass infinity off as its largest value.
        rows
            int64 (t,), ascending: the items it touched.
        """
        if not finite(change.values()):
            change = {name: torch.full_like(tensor, torch.nan) for name, tensor in change.items()}
        draw = None
        if self.dither is not None:
            draw = partial(self.dither.of_client, client, device=rows.device)
        return self.uploads.encode(change, rows, draw)

    def arrived(self, change: Tensors, ids: Tensor) -> Tensors:
        """Return what the server decodes of C clients' changes, name -> float32 (C, ...).

        It equals encoding and decoding client by client.
        """
        values, whole = self.uploads.reduce(change)
        return self.uploads.restore(Reduced(self._through(values, ids), whole))

    def _through(self, sent: Tensors, ids: Tensor) -> Tensors:
        codec = self.task.update_codec
        if codec.lossless:
            return sent
        if self.dither is None or not isinstance(codec, Blocks):
            return codec.through(sent)
        arrived = {}
        clients = self.dither.of_clients(ids)
        for name, tensor in sent.items():
            flat = tensor.unsqueeze(-1).flatten(1)
            values = self.dither.of_values(name, flat.shape[1], flat.device)
            arrived[name] = codec.dithered(flat, clients, values).reshape(tensor.shape)
        return arrived
