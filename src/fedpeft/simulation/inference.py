"""How clients score: with the payload as received, and what their own device makes of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedpeft.backbones import Backbone
from fedpeft.data.dataset import Histories, Ints
from fedpeft.memory import at_once
from fedpeft.simulation.cohort import Cohort, CohortSampler
from fedpeft.simulation.problem import LocalProblem, select, store
from fedpeft.simulation.vmap import personal_scores
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task


class Inference:
    """Scores of all items for any users, as `training.inference` says.

    Parameters
    ----------
    problem
        Its backbone holds the payload as clients received it.
    local
        Every client's local parameters; they are read, never written.
    sampler
        Over what each device knows when it scores.
    """

    def __init__(self, problem: LocalProblem, local: Tensors, sampler: CohortSampler) -> None:
        self._problem = problem
        self._local = local
        self._sampler = sampler
        with torch.no_grad():
            table = problem.backbone.item.merge()
            self._shared: Tensors = {n: p.detach() for n, p in problem.backbone.shared().items()}
            self._gram = table.T @ table if problem.loss.unobserved_weight else None
            self._precomputed = problem.precompute(self._shared, table, stacked=False)

    def __call__(self, users: Tensor) -> Tensor:
        """Return the scores of all items, float (b, n), of users, int64 (b,), each of them once."""
        if self._problem.training.inference == "personalise":
            return self._personal(users)
        own, whole = self._own(users)
        with torch.no_grad():
            return self._problem.catalogue_scores(own, self._shared, self._precomputed, whole)

    def listed(self, users: Tensor, items: Tensor) -> Tensor:
        """Return what `__call__` gives for each user's list of items, int64 (b, c): float (b, c).

        Only these are scored, where a client scores with what it has stored or fitted.
        """
        items = items.to(self._precomputed.device)
        if self._problem.training.inference == "personalise" or self._problem.sees_history:
            return self(users).gather(1, items)
        own, _ = self._own(users)
        lists = at_once(items.shape[1] * self._problem.backbone.activations, items.device)
        with torch.no_grad():
            found = [
                self._problem.scores(
                    {name: tensor[start : start + lists] for name, tensor in own.items()},
                    self._shared,
                    F.embedding(items[start : start + lists], self._precomputed),
                    None,
                    stacked=False,
                )
                for start in range(0, len(items), lists)
            ]
        return torch.cat(found) if found else self._precomputed.new_empty(items.shape)

    def _personal(self, users: Tensor) -> Tensor:
        """Return the scores of all items with each user's own copy of the payload."""
        cohort = self._cohort(users)
        place = _places(users, cohort).to(self._precomputed.device)
        return personal_scores(self._problem, self._local, cohort)[place.argsort()]

    def _own(self, users: Tensor) -> tuple[Tensors, Tensor | None]:
        """Return what `_fit` does, or the local parameters that clients have stored."""
        own = select(self._local, users.to(self._precomputed.device))
        if self._problem.training.inference == "stored" and not self._problem.sees_history:
            return own, None
        cohort = self._cohort(users)
        return self._fit(cohort, _places(users, cohort).to(self._precomputed.device), own)

    def _cohort(self, users: Tensor) -> Cohort:
        return self._sampler.each(users.cpu().numpy(), "inference", "negatives")

    def _fit(self, cohort: Cohort, place: Tensor, own: Tensors) -> tuple[Tensors, Tensor | None]:
        """Bring the local parameters `own` to the payload.

        Returns
        -------
        Tensors
            Fitted where `training.inference` says so.
        Tensor or None
            What the users' histories add, float (b, k), where the backbone sees them.
        """
        problem, shared = self._problem, self._shared
        fitted = {name: tensor.clone() for name, tensor in own.items()}
        width = self._precomputed.shape[1]
        whole = self._precomputed.new_zeros(len(place), width) if problem.sees_history else None
        start = 0
        for bucket in cohort.buckets(problem.backbone.activations, self._precomputed.device):
            rows = place[start : start + len(bucket)]
            start += len(bucket)
            vectors = F.embedding(bucket.items, self._precomputed)
            found = select(own, rows)
            if problem.training.inference == "fit":
                found = problem.fit_local(found, shared, vectors, bucket.weight, self._gram)
                store(fitted, rows, found)
            positives = vectors[:, :, 0]
            context = problem.context(found, shared, positives, bucket.weight, stacked=False)
            if whole is not None and context is not None:
                whole[rows] = context.whole.detach()
        return fitted, whole


def inference(
    task: Task,
    backbone: Backbone,
    local: Tensors,
    histories: Histories,
    ids: Ints,
    round_number: int,
) -> Inference:
    """Return what scores all items for users with their own local parameters.

    Parameters
    ----------
    backbone
        The one-client module, holding the payload as clients receive it.
    local
        name -> float32 (users, ...).
    histories
        What each device knows when it scores.
    ids
        int64 (users,): the numbers that name their streams.
    round_number
        Rounds that the run has done.
    """
    sampler = CohortSampler.of(task, histories, ids=ids)
    with torch.inference_mode(False):
        problem = LocalProblem(task, backbone)
    problem.begin(round_number)
    return Inference(problem, local, sampler)


def _places(users: Tensor, cohort: Cohort) -> Tensor:
    """Return where each user of the cohort stands in `users`, int64 (b,)."""
    asked = users.cpu().numpy()
    order = np.argsort(asked)
    return torch.from_numpy(order[np.searchsorted(asked, cohort.rows, sorter=order)])
