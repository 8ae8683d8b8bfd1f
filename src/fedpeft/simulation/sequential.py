"""The sequential backend: one client after the other, through real bytes.

It is the oracle of every faster backend: a loop over `client_round`, whose uploads become bytes and
are read back, as they would be on a network.
"""

from __future__ import annotations

from fedpeft.client import client_round
from fedpeft.protocol.aggregate import Partial
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
        total = work.admission.add(total, sent, work.pipeline.uploads, work.message)
    return total
