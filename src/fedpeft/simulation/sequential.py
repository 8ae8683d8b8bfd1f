"""The sequential backend: one client after the other, through real bytes.

It is the oracle of every faster backend: a loop over `client_round`, whose uploads become bytes and
are read back, as they would be on a network.
"""

from __future__ import annotations

from fedpeft.client import client_round
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.messages import Upload
from fedpeft.protocol.uploads import UploadCodec
from fedpeft.server.admission import Admission
from fedpeft.simulation.work import Work


def run_sequential(work: Work) -> Partial:
    """Run a round; the population is updated in place."""
    assert work.message is not None  # whoever asks for this backend makes it
    total = work.empty()
    for row in work.cohort.rows.tolist():
        before = work.population.state(row)
        upload, after = client_round(work.replica, work.pipeline, before, work.message)
        sent = upload.to_bytes()
        work.traffic.sent("upload", len(sent))
        work.population.put(row, after)
        total = add_upload(total, sent, work.pipeline.uploads, work.admission)
    return total


def add_upload(total: Partial, sent: bytes, codec: UploadCodec, admission: Admission) -> Partial:
    """Return a sum with one more upload, or with one more that was rejected."""
    upload = Upload.from_bytes(sent)
    change = admission.of(upload, codec)
    if change is None:
        return total + Partial(Partial.empty(total.sum).sum, 0.0, 0, 1, 0.0)
    device = next(iter(total.sum.values())).device
    own = {name: tensor.to(device) for name, tensor in change.items()}
    return total + Partial(own, upload.weight, 1, 0, upload.weight * upload.loss)
