"""How clients score: with the payload as received, and what their own device makes of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedpeft.federation.cohort import Cohort, CohortSampler
from fedpeft.federation.local import LocalProblem, select, store
from fedpeft.federation.scoring import Tensors
from fedpeft.federation.stacked import personal_scores


class Inference:
    """Scores of all items for any users, as `training.inference` says.

    Parameters
    ----------
    problem
        Its backbone holds the payload as clients received it.
    private
        Every client's private parameters; they are read, never written.
    sampler
        Over what each device knows when it scores.
    """

    def __init__(self, problem: LocalProblem, private: Tensors, sampler: CohortSampler) -> None:
        self._problem = problem
        self._private = private
        self._sampler = sampler
        with torch.no_grad():
            table = problem.backbone.item.merge()
            self._shared: Tensors = {n: p.detach() for n, p in problem.backbone.shared().items()}
            self._gram = table.T @ table if problem.loss.catalogue_weight else None
            self._encoded = problem.encode(self._shared, table, stacked=False)

    def __call__(self, users: Tensor) -> Tensor:
        """Return the scores, float (b, n), of users, int64 (b,), each of them once."""
        how = self._problem.training.inference
        own, whole = select(self._private, users.to(self._encoded.device)), None
        if how != "stored" or self._problem.sees_history:
            cohort = self._sampler.each(users.cpu().numpy(), "inference", "negatives")
            place = _places(users, cohort).to(self._encoded.device)
            if how == "personalise":
                return personal_scores(self._problem, self._private, cohort)[place.argsort()]
            own, whole = self._fit(cohort, place, own)
        with torch.no_grad():
            return self._problem.catalogue_scores(own, self._shared, self._encoded, whole)

    def _fit(self, cohort: Cohort, place: Tensor, own: Tensors) -> tuple[Tensors, Tensor | None]:
        """Bring the private parameters `own` to the payload.

        Returns
        -------
        Tensors
            Fitted where `training.inference` says so.
        Tensor or None
            What the users' histories add, float (b, k), where the backbone sees them.
        """
        problem, shared = self._problem, self._shared
        fitted = {name: tensor.clone() for name, tensor in own.items()}
        width = self._encoded.shape[1]
        whole = self._encoded.new_zeros(len(place), width) if problem.sees_history else None
        start = 0
        for bucket in cohort.buckets(problem.backbone.activations, self._encoded.device):
            rows = place[start : start + len(bucket.users)]
            start += len(bucket.users)
            vectors = F.embedding(bucket.items, self._encoded)
            found = select(own, rows)
            if problem.training.inference == "fit":
                found = problem.fit_private(found, shared, vectors, bucket.weight, self._gram)
                store(fitted, rows, found)
            positives = vectors[:, :, 0]
            context = problem.context(found, shared, positives, bucket.weight, stacked=False)
            if whole is not None and context is not None:
                whole[rows] = context.whole.detach()
        return fitted, whole


def _places(users: Tensor, cohort: Cohort) -> Tensor:
    """Return where each user of the cohort stands in `users`, int64 (b,)."""
    asked = users.cpu().numpy()
    order = np.argsort(asked)
    return torch.from_numpy(order[np.searchsorted(asked, cohort.users, sorter=order)])
