"""A sum of uploads as one message: what a node with many users sends, encoded once as a whole.

Whoever receives it sees no single upload.  So the layouts that tell of single clients are refused
here: `rows` says which items somebody touched, and a sum is not of rank one.
"""

from __future__ import annotations

import torch

from fedpeft.errors import ConfigError
from fedpeft.protocol.aggregate import Partial, finite
from fedpeft.protocol.layout import Ditherer, UploadCodec
from fedpeft.protocol.messages import Broadcast, PartialSum
from fedpeft.protocol.wire import MessageError


def pack_sum(
    partial: Partial,
    round_number: int,
    version: int,
    codec: UploadCodec,
    dither: Ditherer | None = None,
) -> PartialSum:
    """Return a partial sum as a message.

    Parameters
    ----------
    codec
        How uploads are written; it must be dense.
    dither
        What the node rounds by; None rounds to the nearest.

    Raises
    ------
    ConfigError
        If the layout of uploads tells of single clients.
    """
    _require_dense(codec)
    payload = codec.encode(partial.sum, _NO_ROWS, dither)
    return PartialSum(
        round_number,
        version,
        partial.clients,
        partial.rejected,
        partial.weight,
        partial.loss_sum,
        payload,
    )


def unpack_sum(message: PartialSum, codec: UploadCodec, asked: Broadcast) -> Partial:
    """Undo `pack_sum`, for a message that answers the broadcast `asked`.

    Raises
    ------
    ConfigError
        As `pack_sum`.
    MessageError
        If it answers another broadcast, or the payload does not fit, or the sum is not finite.
    """
    _require_dense(codec)
    if (message.round, message.version) != (asked.round, asked.version):
        raise MessageError("PartialSum: it answers another broadcast")
    found = codec.decode(message.payload)
    if not finite(found.values()):
        raise MessageError("PartialSum: the sum is not finite")
    return Partial(found, message.weight, message.clients, message.rejected, message.loss_sum)


_NO_ROWS = torch.zeros(0, dtype=torch.int64)


def _require_dense(codec: UploadCodec) -> None:
    if codec.form != "dense":
        raise ConfigError(
            f"training.upload = {codec.form!r} tells of single clients, so it cannot be used where "
            "only sums may be seen; use 'dense'"
        )
