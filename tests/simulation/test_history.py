"""Clients that see their own history: backends, exact solutions, scores, neighbours, masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.backbones import HistoryBackbone
from fedpeft.client.local import client_loss
from fedpeft.data import Split
from fedpeft.graph.pseudo import PseudoRows
from fedpeft.protocol.traffic import Traffic
from fedpeft.simulation import Simulation, checkpoint
from fedpeft.testing import Toy, assert_backends_agree, hand_split
from fedpeft.testing.toy import LEAST_SQUARES
from fedpeft.transforms import UpdateTransform
from toys import ADAM, SGD, everything, made_split, same, toy

from . import rounds, test_backends
from .rounds import insert, run_round
from .test_backends import GRID, QUICK, STYLES, many_buckets

EXPANSION: dict[str, Any] = {"every": 2, "neighbours": 2}


def graph(run: Toy, **expansion: Any) -> Toy:
    """Return the run with FedPerGNN, which expands every other round."""
    settings = {"items": 0.8, "neighbours": 1.2, "expansion": {**EXPANSION, **expansion}}
    return replace(run, backbone=("fedpergnn", settings))


def phased(adapter: str, mode: str, loss: str, style: str) -> Toy:
    return graph(test_backends.phased(adapter, mode, loss, style))


@pytest.mark.parametrize(("adapter", "mode", "loss", "style"), QUICK)
def test_backends_agree(adapter: str, mode: str, loss: str, style: str) -> None:
    with many_buckets():
        assert_backends_agree(phased(adapter, mode, loss, style), rounds=4)


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "mode", "loss", "style"), GRID)
def test_backends_agree_everywhere(adapter: str, mode: str, loss: str, style: str) -> None:
    assert_backends_agree(phased(adapter, mode, loss, style), rounds=5)


@pytest.mark.parametrize("loss", ["bpr", "ials"])
def test_backends_agree_where_older_items_count_less(loss: str) -> None:
    training = STYLES["local-first"] if loss == "bpr" else {}
    recency = {"half_life": 2.0, "floor": 0.1}
    assert_backends_agree(graph(toy("lora", loss, recency=recency, **training)))


@pytest.mark.parametrize("adapter", ["full", "lora", "hash"])
def test_backends_agree_where_uploads_are_masked(adapter: str) -> None:
    phases = {"warmup_rounds": 1, "refresh_every": 2}
    run = graph(toy(adapter, "bpr", **phases, **STYLES["local-first"]), mask_upload=True)
    assert run.simulation().backend == "vmap"
    assert_backends_agree(run, rounds=5)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
def test_every_client_solves_what_its_context_leaves(backend: str) -> None:
    """The local solution has no gradient left in the module's own loss."""
    run = graph(toy("lora", cohort=1.0, local_decay=0.1, recency={"half_life": 3.0}))
    simulation = run.simulation(backend)
    for _ in range(2):
        simulation.step()  # so that there are neighbours in the third round
    simulation._expand()
    run_round(simulation)
    assert simulation.population.local["neighbours"].any()
    for user in range(12):
        model = device(simulation, run.split, user)
        items = model.history_ids
        loss = client_loss(simulation.task, model, items[:, None], model.history_weight)
        (gradient,) = torch.autograd.grad(loss, [model.get_parameter("user")])
        assert gradient.abs().max() < 1e-4


def device(simulation: Simulation, split: Split, user: int, part: str = "train") -> HistoryBackbone:
    """Return what one client has on its device."""
    histories = split.train if part == "train" else split.before("test")
    model = rounds.device(simulation, user)
    assert isinstance(model, HistoryBackbone)
    items = histories.of(user)
    ages = np.arange(len(items))[::-1]
    weight = simulation.training.recency.weights(ages).astype(np.float32)
    model.remember(torch.from_numpy(items), torch.from_numpy(weight))
    return model


def test_scores_are_those_of_the_clients_own_module() -> None:
    split = hand_split([[0, 3], [5, 1, 2], [4]], 9, validation=[6, 7, 8], test=[7, 8, 0])
    run = Toy(
        split=split,
        loss=("bpr", {}),
        training={
            **STYLES["local-first"],
            "cohort": 1.0,
            "rounds": 9,
            "warmup_rounds": 0,
            "inference": "stored",
            "recency": {"half_life": 2.0},
        },
        dim=4,
    )
    simulation = graph(run).simulation()
    for _ in range(3):
        simulation.step()
    known = split.before("test")
    scores = simulation.scorer(known)(torch.tensor([2, 0, 1]))
    for row, user in enumerate([2, 0, 1]):
        model = device(simulation, split, user, "test")
        new = torch.tensor([i for i in range(9) if i not in known.of(user)])
        torch.testing.assert_close(scores[row, new], model(new).detach(), atol=1e-6, rtol=1e-5)


def test_held_out_items_are_in_no_graph() -> None:
    """Other held-out items change nothing that training or expansion does."""
    rows = [[0, 3], [5, 1, 2], [4, 0, 1], [2]]
    states = []
    for held in ([6, 7, 8, 0], [8, 6, 7, 5]):
        split = hand_split(rows, 9, validation=held, test=held[::-1])
        training = {**STYLES["local-first"], "cohort": 1.0, "rounds": 9, "warmup_rounds": 0}
        simulation = graph(Toy(split=split, loss=("bpr", {}), training=training)).simulation()
        for _ in range(5):
            simulation.step()
        state = everything(simulation)
        # nor that scoring does: before the validation item comes, a device knows its train items
        state["scores"] = simulation.scorer(split.before("validation"))(torch.arange(4))
        states.append(state)
    assert states[0]["local.neighbours"].any()
    assert same(*states)


def test_the_test_item_is_in_no_context() -> None:
    """Scoring for the test item uses the validation item, which came before it, and not itself."""
    scores = []
    for validation, test in (([6, 7], [8, 4]), ([6, 7], [4, 6]), ([8, 4], [6, 7])):
        split = hand_split([[0, 3], [5, 1, 2]], 9, validation=validation, test=test)
        training = {"cohort": 1.0, "rounds": 3, "warmup_rounds": 0}
        simulation = graph(Toy(split=split, training=training)).simulation()
        simulation.step()
        scores.append(simulation.scorer(split.before("test"))(torch.arange(2)))
    assert torch.equal(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])


def test_neighbours_are_local_and_not_trained() -> None:
    simulation = graph(toy("full", "bpr", **STYLES["paper"]), every=3).simulation()
    assert not any("neighbours" in name for name in simulation.state.payload)
    kept = []
    for _ in range(8):
        simulation.step()
        kept.append(simulation.population.local["neighbours"].clone())
    assert not kept[2].any()
    assert kept[3].any()
    assert torch.equal(kept[3], kept[5])
    assert not torch.equal(kept[5], kept[6])


def test_expansions_are_in_the_traffic() -> None:
    simulation = graph(toy("full"), every=3).simulation()
    entries = [simulation.step().entry for _ in range(7)]
    for direction in ("expansion_up", "expansion_down"):
        assert [e.round for e in entries if getattr(e, direction)] == [3, 6]
    assert simulation.expansion is not None
    traffic = Traffic(12)
    simulation.expansion.run(torch.zeros(12, 6), 3, traffic)
    alone = traffic.close(3, "adapt", 12, 0, None)
    assert entries[3].expansion_up == alone.expansion_up
    assert entries[3].expansion_down == alone.expansion_down
    parts = ("upload", "download", "initial_download", "resync", "expansion_up", "expansion_down")
    everything_ = sum(getattr(entry, part) for entry in entries for part in parts)
    assert entries[-1].bytes_per_client == pytest.approx(everything_ / 12)


def test_without_expansion_there_is_none() -> None:
    simulation = graph(toy("full"), every=0).simulation()
    assert simulation.expansion is None
    entries = [simulation.step().entry for _ in range(5)]
    assert not any(entry.expansion_up or entry.expansion_down for entry in entries)
    assert not simulation.population.local["neighbours"].any()


@pytest.mark.parametrize("at", [3, 4])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, at: int) -> None:
    run = graph(
        toy("lora", "bpr", warmup_rounds=1, refresh_every=2, **STYLES["paper"]), mask_upload=True
    )
    whole, first = run.simulation(), run.simulation()
    for _ in range(at):
        first.step()
    checkpoint.save(first, tmp_path / "state.safetensors")
    second = run.simulation()
    checkpoint.load(second, tmp_path / "state.safetensors")
    entries = [whole.step().entry for _ in range(8)][at:]
    assert [second.step().entry for _ in range(8 - at)] == entries
    assert same(everything(whole), everything(second))


class _Spy(UpdateTransform):
    """A transform that notes what the server gets to see of item-indexed tensors."""

    dense = True

    def __init__(self) -> None:
        self.rows: dict[int, set[int]] = {}
        self.changes: dict[int, torch.Tensor] = {}

    def on_user(self, change: dict[str, Any], ids: torch.Tensor) -> dict[str, Any]:
        for delta, user in zip(change["item.weight"], ids.tolist(), strict=True):
            self.rows[user] = set(delta.any(1).nonzero().flatten().tolist())
            self.changes[user] = delta
        return change


def test_masked_uploads_touch_pseudo_items_too() -> None:
    run = Toy(
        split=made_split([3, 6, 2, 9], 40),
        loss=("bpr", {}),
        training={**STYLES["local-first"], "cohort": 1.0, "rounds": 3, "warmup_rounds": 0},
    ).with_training(server_optimizer=SGD)
    bare, masked = _Spy(), _Spy()
    simulation = graph(run, mask_upload=True, pseudo=3).simulation("vmap")
    (mask,) = simulation.pipeline.transforms
    assert isinstance(mask, PseudoRows)
    run_round(insert(graph(run, every=2).simulation("vmap"), bare))
    run_round(insert(simulation, mask, masked))
    assert simulation.expansion is not None
    for user in range(4):
        pseudo = set(simulation.expansion.pseudo.of(user).tolist())
        assert masked.rows[user] == bare.rows[user] | pseudo
        true = sorted(bare.rows[user])
        added = sorted(pseudo - bare.rows[user])
        assert torch.equal(masked.changes[user][true], bare.changes[user][true])
        sizes = [masked.changes[user][rows].norm(dim=1).mean() for rows in (true, added)]
        assert 0.3 < sizes[0] / sizes[1] < 3


def test_masks_leave_pseudo_rows_where_they_are_in_the_mean() -> None:
    run = graph(toy("full", "bpr", **STYLES["local-first"]), mask_upload=True)
    simulation = run.simulation()
    (mask,) = simulation.pipeline.transforms
    change = {"item.weight": torch.zeros(1, 15, 6)}
    change["item.weight"][0, 0] = 1.0  # one touched row: no spread, a mean of 1
    moved = torch.zeros(15, 6)
    for number in range(400):
        mask.begin(number, simulation.state.item)
        moved += mask.on_user(change, torch.tensor([0]))["item.weight"][0] / 400
    assert moved[1:].any()
    assert moved[1:].abs().max() < 0.25  # five standard errors


def test_masks_differ_between_rounds_and_clients() -> None:
    run = graph(toy("full", "bpr", **STYLES["local-first"]), mask_upload=True)
    simulation = run.simulation()
    (mask,) = simulation.pipeline.transforms
    mask.begin(0, simulation.state.item)
    change = {"item.weight": torch.zeros(2, 15, 6)}
    change["item.weight"][:, 0] = 1.0
    change["item.weight"][:, 1] = -1.0
    users = torch.tensor([3, 5])
    first = mask.on_user(change, users)["item.weight"]
    assert torch.equal(mask.on_user(change, users)["item.weight"], first)
    mask.begin(1, simulation.state.item)
    second = mask.on_user(change, users)["item.weight"]
    assert not torch.equal(first, second)
    assert torch.equal(first.any(-1), second.any(-1))
    assert not change["item.weight"][:, 2:].any()


def test_loss_with_a_catalogue_counts_every_item_as_new() -> None:
    """One client of two items, written out in float64."""
    run = graph(
        Toy(
            split=hand_split([[1, 3]], 5),
            training={"cohort": 1.0, "rounds": 2, "warmup_rounds": 0, "local_decay": 0.3},
            dim=3,
        ),
        every=0,
    ).with_training(server_optimizer=ADAM)
    simulation = run.simulation()
    table = simulation.item_vectors().double().numpy()
    unobserved_weight = LEAST_SQUARES[1]["unobserved_weight"]
    whole, others = 0.8 * (table[1] + table[3]) / 2, 0.8 * table[[3, 1]]
    left = 1 - (others * table[[1, 3]]).sum(1)
    system = table[[1, 3]].T @ table[[1, 3]] + unobserved_weight * table.T @ table + 0.3 * np.eye(3)
    user = np.linalg.solve(
        system, table[[1, 3]].T @ left - unobserved_weight * table.T @ (table @ whole)
    )
    scores = ((user + others) * table[[1, 3]]).sum(1)
    loss = ((scores - 1) ** 2).sum() / 2 + unobserved_weight / 2 * (
        (table @ (user + whole)) ** 2
    ).sum()
    loss += 0.3 / 2 * user @ user
    assert simulation.step().loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(
        simulation.population.local["user"][0].numpy(), user, rtol=1e-4, atol=1e-6
    )
