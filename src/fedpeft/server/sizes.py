"""Lengths of the messages of a version, from shapes alone."""

from __future__ import annotations

from dataclasses import dataclass

from fedpeft.backbones import Backbone
from fedpeft.protocol.messages import (
    Broadcast,
    Snapshot,
    Step,
    Upload,
)
from fedpeft.protocol.statistics import MOMENT
from fedpeft.training.task import Task, payload_shapes


@dataclass(frozen=True)
class MessageSizes:
    """Bytes of one message each.

    Attributes
    ----------
    upload
        A client's change; None where that depends on what the client touched, and it is not known.
    statistics
        What of it is second moments of readers, which a second-order server asks for.
    download
        The broadcast.
    fresh
        The broadcast of a payload that nobody has trained yet; adapters that begin at zero need no
        values for it.
    step
        A merge: the item tensors that are merged, and a new subspace.
    base
        The base alone: as float32 rows.
    subspace
        Codes or seeds alone.
    encoded_base
        The base alone, in the encoding of the broadcast.
    snapshot
        Base and subspace as a message, with the base as float32 rows.
    encoded_snapshot
        The same with the base in the encoding of the broadcast, as at the end of a warm-up.
    """

    upload: int | None
    statistics: int
    download: int
    fresh: int
    step: int
    base: int
    subspace: int
    encoded_base: int
    snapshot: int
    encoded_snapshot: int

    def coded_snapshot(self, base: int) -> int:
        """Return the length of the snapshot where codes of so many bytes stand for the base."""
        return Snapshot.size(base + self.subspace)


def message_sizes(task: Task, backbone: Backbone, touched: int | None = None) -> MessageSizes:
    """Return the lengths of a one-client module's messages; it may be a sketch without values.

    Parameters
    ----------
    touched
        Items that a client has touched, which an upload of rows depends on.
    """
    codec, shapes, item = task.broadcast_codec, payload_shapes(backbone), backbone.item
    merged = {name: shape for name, shape in shapes.items() if name.startswith("item.")}
    base = {} if item.base is None else {"base": item.base.shape}
    download = Broadcast.size(codec.size(shapes))
    at_zero = item.starts_at_zero and not backbone.shared()
    uploads = task.uploads(shapes, item)
    varies = uploads.by_rows and touched is None
    moments = {n: shape for n, shape in task.sent(shapes, item).items() if n == MOMENT}
    return MessageSizes(
        upload=None if varies else Upload.size(uploads.size(touched or 0)),
        statistics=task.update_codec.size(moments),
        download=download,
        fresh=Broadcast.size(0) if at_zero else download,
        step=Step.size(codec.size(merged) + item.subspace_bytes),
        base=item.base_bytes,
        subspace=item.subspace_bytes,
        encoded_base=codec.size(base),
        snapshot=Snapshot.size(item.base_bytes + item.subspace_bytes),
        encoded_snapshot=Snapshot.size(codec.size(base) + item.subspace_bytes),
    )
