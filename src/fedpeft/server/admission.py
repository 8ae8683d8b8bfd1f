"""Which uploads enter a sum: those that fit, are finite, and are no longer than allowed.

A client's own clipping binds honest clients alone, so a server that sees single uploads holds each
to the same bound.  Where it sees sums only, whoever adds up does this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

import torch
from torch import Tensor

from fedpeft.protocol.aggregate import Partial, finite
from fedpeft.protocol.layout import UploadCodec
from fedpeft.protocol.messages import Broadcast, Upload
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task
from fedpeft.transforms import UpdateTransform


class Admission:
    """The rules by which uploads enter a sum.

    Parameters
    ----------
    task
        What the run has agreed on.
    transforms
        Those of the clients, in order.  The smallest bound holds among the last ones: what comes
        before a transform without a bound may leave it longer.
    """

    def __init__(self, task: Task, transforms: Sequence[UpdateTransform]) -> None:
        last = takewhile(lambda bound: bound is not None, (t.bound for t in reversed(transforms)))
        self._bound = min((bound for bound in last if bound is not None), default=None)
        self._samples = task.weighs_samples
        self._most = task.n_items  # nobody has more items than there are

    def add(self, total: Partial, sent: bytes, codec: UploadCodec, asked: Broadcast) -> Partial:
        """Return a sum with one more upload, or with one more that was rejected.

        An upload that answers another broadcast than `asked` is late or replayed.
        """
        try:
            upload = Upload.from_bytes(sent)
            answers = (upload.round, upload.version) == (asked.round, asked.version)
            change = self.of(upload, codec) if answers else None
        except MessageError:
            change = None
        if change is None:
            return replace(total, rejected=total.rejected + 1)
        own = {name: change[name].to(tensor.device) for name, tensor in total.sum.items()}
        return total + Partial(own, upload.weight, 1, 0, upload.weight * upload.loss)

    def of(self, upload: Upload, codec: UploadCodec) -> Tensors | None:
        """Return the weighted change of an upload, or None where it has to be left out."""
        try:
            change = codec.decode(upload.payload)
        except MessageError:
            return None
        sound = math.isfinite(upload.loss) and self._honest(upload.weight)
        if not sound or not finite(change.values()):
            return None
        if upload.weight == 0 and any(bool(tensor.any()) for tensor in change.values()):
            return None
        stacked = {name: tensor.unsqueeze(0) for name, tensor in change.items()}
        bounded = self.bounded(stacked, torch.tensor([upload.weight]))
        return {name: tensor[0] for name, tensor in bounded.items()}

    def _honest(self, weight: float) -> bool:
        """Return whether a client can have this weight: 1, or its number of train items."""
        if self._samples:
            return weight <= self._most and weight == math.floor(weight)
        return weight == 1

    def bounded(self, arrived: Tensors, weights: Tensor) -> Tensors:
        """Return C clients' weighted changes, float32 (C, ...), scaled down to the bound."""
        if self._bound is None:
            return arrived
        squares = [t.square().unsqueeze(-1).flatten(1).sum(1) for t in arrived.values()]
        norm = torch.stack(squares).sum(0).sqrt()
        allowed = self._bound * (1 + _ROUNDING) * weights.to(norm)
        factor = torch.where(norm > allowed, allowed / norm, 1.0)
        if bool((factor == 1).all()):
            return arrived
        return {n: t * factor.view(-1, *[1] * (t.dim() - 1)) for n, t in arrived.items()}


_ROUNDING = 1e-5
"""Relative excess that float32 arithmetic alone may cause."""
