"""Named tensors: what payloads, changes and states are made of."""

from __future__ import annotations

from torch import Tensor

Tensors = dict[str, Tensor]
