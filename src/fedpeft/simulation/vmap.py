"""The vmap backend: every client's own copy of the payload, many clients per tensor.

Tensors with one row per item (the full table, LoRA's A) are gathered to the rows a client
touches, so memory follows interactions, not clients x items; other rows do not move.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from fedpeft.adapters import ItemEmbedding
from fedpeft.memory import at_once
from fedpeft.protocol.aggregate import Partial
from fedpeft.simulation import unobserved
from fedpeft.simulation.bucket import Bucket, ascending, stacked_rows
from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.problem import LocalProblem, select, store
from fedpeft.simulation.scoring import Contexts
from fedpeft.simulation.unobserved import Stepped
from fedpeft.simulation.work import Work, sound
from fedpeft.tensors import Tensors


class Payloads:
    """The payload copies of a bucket's clients, as leaves, and the item vectors they give."""

    def __init__(self, item: ItemEmbedding, shared: Tensors, rows: Tensor) -> None:
        clients = len(rows)
        self._item = item
        self._received = shared
        self.rows = rows
        self._base = item.base_rows(rows)
        self._lookups = {
            name: stacked_rows(index, len(item.get_parameter(name)))
            for name, index in item.lookups(rows).items()
            if name not in item.item_indexed
        }
        self.start: Tensors = {}
        for name, tensor in item.named_parameters():
            if name in item.item_indexed:
                self.start[f"item.{name}"] = F.embedding(rows, tensor.detach())
            else:
                self.start[f"item.{name}"] = tensor.detach().expand(clients, *tensor.shape)
        self.start |= {name: t.expand(clients, *t.shape) for name, t in shared.items()}
        self.leaves = {name: t.clone().requires_grad_() for name, t in self.start.items()}
        self.shared = {name: self.leaves[name] for name in shared}

    def table(self) -> Tensor:
        """Return each client's item vectors, float (C, M, k)."""
        gathered, whole = {}, {}
        for name, _ in self._item.named_parameters():
            leaf = self.leaves[f"item.{name}"]
            if name in self._item.item_indexed:
                gathered[name] = leaf
            elif name in self._lookups:
                index = self._lookups[name]
                found = leaf.flatten(0, 1).index_select(0, index.flatten())
                gathered[name] = found.view(*index.shape, *leaf.shape[2:])
            else:
                whole[name] = leaf
        has_base = None if self._base is None else 0
        composed: Tensor = vmap(self._item.compose, in_dims=(0, 0, has_base))(
            gathered, whole, self._base
        )
        return composed

    @torch.no_grad()
    def over_catalogue(self, clients: slice) -> Payloads:
        """Return the copies of some of the clients, with the rows of all items."""
        rows = self.rows[clients]
        everything = torch.arange(self._item.num_embeddings, device=rows.device)
        copies = Payloads(self._item, self._received, everything.expand(len(rows), -1))
        change = {name: delta[clients] for name, delta in self.change().items()}
        for name, delta in _all_rows(self._item, change, rows).items():
            copies.leaves[name] += delta
        return copies

    def change(self) -> Tensors:
        """Return how far each client's payload has moved, name -> float (C, ...)."""
        return {name: leaf.detach() - self.start[name] for name, leaf in self.leaves.items()}


def run_vmap(work: Work) -> Partial:
    """Run a round; the population is updated in place.  The result equals `run_sequential`'s."""
    problem, pipeline = work.problem, work.pipeline
    item = problem.backbone.item
    indexed = {f"item.{name}" for name in item.item_indexed}
    parts: Iterator[_Trained | Stepped]
    if unobserved.applies(problem):
        parts = unobserved.stepped(problem, work.population.local, work.cohort)
    else:
        parts = _trained(problem, work.population.local, work.cohort, pipeline.dense)
    total = work.empty().sum
    weight, clients, loss = 0.0, 0, 0.0
    for part in parts:
        bucket, moved, rows = part.clients, part.change, part.rows
        if rows is not None and pipeline.dense:
            moved, rows = _all_rows(item, moved, rows), None
        weights = problem.task.weights(bucket.lengths)
        moved = pipeline.transform(moved, bucket.ids, weights)
        if rows is not None and part.places is not None and pipeline.uploads.form == "rows":
            rows, moved = ascending(bucket, rows, part.places, moved, indexed)
        arrived = work.admission.bounded(pipeline.arrived(moved, bucket.ids), weights)
        local, losses = part.local, part.losses
        spread = indexed if rows is not None else set()
        sums = _sums(arrived, spread)
        looked = [losses, *(sums.get(name, tensor) for name, tensor in arrived.items())]
        if not bool(torch.stack([t.sum() for t in looked]).isfinite().all()):  # sums hide nothing
            fine = sound(losses, arrived)
            bucket, weights, losses = bucket[fine], weights[fine], losses[fine]
            arrived = {name: tensor[fine] for name, tensor in arrived.items()}
            local = {name: tensor[fine] for name, tensor in local.items()}
            rows = None if rows is None else rows[fine]
            sums = _sums(arrived, spread)
        store(work.population.local, bucket.rows, local)
        for name, delta in sums.items():
            total[name] += delta
        if rows is not None:
            for name in indexed:
                total[name].index_add_(0, rows.flatten(), arrived[name].flatten(0, 1))
        weight += float(weights.sum())
        clients += len(bucket)
        loss += float((losses * weights).sum())
    work.count_uploads()
    return Partial(total, weight, clients, len(work.cohort) - clients, loss)


def _sums(arrived: Tensors, spread: Set[str]) -> Tensors:
    """Return the sums over clients, but of what is spread over rows of the whole."""
    whole = {name: tensor for name, tensor in arrived.items() if name not in spread}
    # a product with ones reads its input once, as fast as memory allows; `sum(0)` takes 3 x as long
    return {n: torch.tensordot(t.new_ones(len(t)), t, 1) for n, t in whole.items()}


def _all_rows(item: ItemEmbedding, change: Tensors, rows: Tensor) -> Tensors:
    """Return changes with all rows of item-indexed tensors, of which `rows`, (C, M), have moved."""
    whole = dict(change)
    for name in item.item_indexed:
        moved = change[f"item.{name}"]
        index = rows.view(*rows.shape, *[1] * (moved.dim() - 2)).expand_as(moved)
        still = moved.new_zeros(len(moved), item.num_embeddings, *moved.shape[2:])
        whole[f"item.{name}"] = still.scatter_add_(1, index, moved)
    return whole


def personal_scores(problem: LocalProblem, local: Tensors, cohort: Cohort) -> Tensor:
    """Return scores of all items, float (c, n), for the clients of a cohort in its order.

    Each trains as in a round, but keeps the result: it scores with its own copy of the payload and
    its own local parameters (the dual personalisation of Zhang et al. 2023).  `local` stays as
    it is.
    """
    item = problem.backbone.item
    values = item.num_embeddings * problem.backbone.activations
    clients = at_once(values, item.device)
    found = []
    with torch.inference_mode(False):  # whoever scores may have switched gradients off
        for part in _trained(problem, local, cohort, dense=False):
            starts = range(0, len(part.losses), clients)
            found += [_score_catalogue(problem, part, slice(a, a + clients)) for a in starts]
    return torch.cat(found) if found else torch.empty(0, item.num_embeddings, device=item.device)


@torch.no_grad()
def _score_catalogue(problem: LocalProblem, part: _Trained, chosen: slice) -> Tensor:
    """Return the scores of all items, float (c, n), of some trained clients."""
    own = {name: tensor[chosen] for name, tensor in part.local.items()}
    payload, clients = part.payload.over_catalogue(chosen), part.clients[chosen]
    table = payload.table()
    context = _context(problem, own, payload, table, clients, clients.items)
    precomputed = problem.precompute(payload.shared, table, stacked=True)
    return problem.scores(own, payload.shared, precomputed, context, stacked=True)


@dataclass(frozen=True, eq=False)
class _Trained:
    """Some clients after their local training: C of them."""

    clients: Bucket
    local: Tensors
    payload: Payloads
    losses: Tensor
    """float (C,): at the start of the last payload step."""
    rows: Tensor | None
    """int64 (C, M): the rows of item-indexed tensors that they have copies of; None: of all."""
    places: Tensor | None
    """int64 (C, L, 1 + m): where each of their items stands in `rows`."""

    @property
    def change(self) -> Tensors:
        """How far each client's payload has moved, name -> float (C, ...)."""
        return self.payload.change()


def _trained(
    problem: LocalProblem, local: Tensors, cohort: Cohort, dense: bool
) -> Iterator[_Trained]:
    """Train the clients of a cohort, some at a time.

    `dense` leaves room for changes of the rows of all items, which whoever asks is to fill in.
    """
    item = problem.backbone.item
    over_catalogue = bool(problem.loss.unobserved_weight)  # scores all items, so it copies all rows
    shared: Tensors = {name: p.detach() for name, p in problem.backbone.shared().items()}
    received, position, gram = _received(problem, shared, cohort)
    for bucket in cohort.buckets(problem.backbone.activations, item.device):
        values = _values_per_client(problem, bucket, dense=dense)
        for part in bucket.within(at_once(values, item.device)):
            own = select(local, part.rows)
            if problem.fits_local:
                index = part.items if position is None else position[part.items]
                vectors = F.embedding(index, received)
                own = problem.fit_local(own, shared, vectors, part.weight, gram)
            if over_catalogue:
                rows = torch.arange(item.num_embeddings, device=item.device)
                rows, places = rows.expand(len(part), -1), part.items
            else:
                rows, places = part.compact(item.num_embeddings)
            payload = Payloads(item, shared, rows)
            own, losses = _train(problem, payload, own, part, places)
            if over_catalogue:
                yield _Trained(part, own, payload, losses, None, None)
            else:
                yield _Trained(part, own, payload, losses, rows, places)


@torch.no_grad()
def _received(
    problem: LocalProblem, shared: Tensors, cohort: Cohort
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return what local parameters are fitted to: precomputed items, their positions, V^T V."""
    item = problem.backbone.item
    over_catalogue = bool(problem.loss.unobserved_weight)
    rows, position = cohort.touched(item.num_embeddings, over_catalogue, item.device)
    table = item(rows)
    gram = table.T @ table if over_catalogue else None
    return problem.precompute(shared, table, stacked=False), position, gram


def _train(
    problem: LocalProblem, payload: Payloads, local: Tensors, bucket: Bucket, places: Tensor
) -> tuple[Tensors, Tensor]:
    """Run the payload steps; return local parameters and losses (C,)."""
    training = problem.training
    leaves = dict(payload.leaves)
    optimizers = [training.payload_optimizer.build(leaves.values())]
    if training.joint:
        moving = {n: local[n].clone().requires_grad_() for n in problem.backbone.local}
        optimizers.append(problem.local_optimizer.build(moving.values()))
        leaves |= {f"local.{name}": p for name, p in moving.items()}
        local = local | moving
    losses = torch.zeros(len(places))
    for _ in range(training.payload_steps):
        # every row is scored once; scores, not vectors, are looked up for each interaction
        table = payload.table()
        context = _context(problem, local, payload, table, bucket, places)
        precomputed = problem.precompute(payload.shared, table, stacked=True)
        rated = problem.scores(local, payload.shared, precomputed, context, stacked=True)
        scores = rated.gather(1, places.flatten(1)).view(places.shape)
        scores = problem.leave_out(scores, context)
        squares = rated.square().sum(1) if problem.loss.unobserved_weight else None
        losses = problem.losses(local, scores, bucket.weight, squares)
        total = losses.sum()
        if problem.task.own_items_decay:
            columns = places[:, :, 0].unsqueeze(-1).expand(-1, -1, table.shape[-1])
            total = total + problem.own_items_penalty(table.gather(1, columns), bucket.weight)
        total.backward(inputs=list(leaves.values()))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return {name: p.detach() for name, p in local.items()}, losses.detach()


def _context(
    problem: LocalProblem,
    local: Tensors,
    payload: Payloads,
    table: Tensor,
    bucket: Bucket,
    places: Tensor,
) -> Contexts | None:
    """Return what histories add; `places`, int64 (C, L, 1 + m), are positions in `table`."""
    if not problem.sees_history:
        return None
    columns = places[:, :, 0].unsqueeze(-1).expand(-1, -1, table.shape[-1])
    positives = table.gather(1, columns)
    return problem.context(local, payload.shared, positives, bucket.weight, stacked=True)


def _values_per_client(problem: LocalProblem, bucket: Bucket, *, dense: bool) -> int:
    """Return about how many floats one client's tensors take."""
    item = problem.backbone.item
    touched = item.num_embeddings if problem.loss.unobserved_weight else bucket.items[0].numel()
    fixed = sum(p.numel() for p in problem.backbone.shared().values())
    for name, tensor in item.named_parameters():
        if dense or name not in item.item_indexed:
            fixed += tensor.numel()
    return touched * problem.backbone.activations + fixed
