"""The RQ-VAE: codebooks that are really trained, gradients that are what the papers say."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from fedpeft.errors import CollapseError
from fedpeft.items import ItemsConfig
from fedpeft.items.quantise import sum_entries
from fedpeft.items.rqvae import (
    ResidualQuantiser,
    SemanticIDs,
    describe_codes,
    rotate,
    straight_through,
    train_rqvae,
)


def quiet(stage: str, fraction: float) -> None:
    pass


def trained(inputs: Tensor, levels: int = 2, codes: int = 8, **settings: object) -> SemanticIDs:
    config = ItemsConfig(dim=4, hidden=(32, 16), rqvae={"batch_size": 32, "epochs": 10, **settings})
    return train_rqvae(inputs, levels, codes, config, quiet)


@pytest.mark.parametrize("estimator", ["rotation", "straight_through"])
def test_codes_tell_the_clusters_apart(inputs: Tensor, estimator: str) -> None:
    made = trained(inputs, codes=12, estimator=estimator)
    assert made.codes.shape == (300, 2)
    assert made.codes.dtype == torch.int64
    assert made.codebooks.shape == (2, 12, 4)
    assert made.codebooks.dtype == torch.float32
    first = made.codes[:, 0]
    cluster = torch.arange(300) % 12
    same = first[:, None] == first
    alike = cluster[:, None] == cluster
    assert same[alike].float().mean() > 5 * same[~alike].float().mean()


def test_the_sums_of_entries_are_normalised(inputs: Tensor) -> None:
    made = trained(inputs)
    vectors = sum_entries(made.codebooks, made.codes)
    torch.testing.assert_close(vectors.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    assert float(vectors.std(correction=0)) == pytest.approx(0.1, rel=1e-4)


def test_more_levels_and_more_epochs_rebuild_better(inputs: Tensor) -> None:
    def lost(**settings: int) -> float:
        return float(trained(inputs, **settings).report["unexplained"])

    assert lost(levels=3) < lost(levels=1)
    assert lost(epochs=20) < lost(epochs=1)


def test_codebooks_follow_latents_that_move() -> None:
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(256, 3, generator=rng)
    quantiser = ResidualQuantiser(latents, 2, 16, seed=0)
    before = quantiser.codebooks.clone()
    moved = 2 * latents + 1
    stale = (quantiser.decode(quantiser.encode(moved)) - moved).square().mean()
    for _ in range(200):
        quantiser.learn(moved)
    fresh = (quantiser.decode(quantiser.encode(moved)) - moved).square().mean()
    assert fresh < 0.5 * stale
    assert not torch.equal(quantiser.codebooks, before)


def test_dead_codes_are_revived() -> None:
    latents = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    quantiser = ResidualQuantiser(latents, 1, 8, seed=0)
    quantiser.codebooks[0, 3:] = 1e3  # nothing is near these
    for _ in range(200):
        quantiser.learn(latents)
    assert len(quantiser.encode(latents).unique()) == 8


def test_commitment_is_the_sum_over_levels() -> None:
    latents = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    quantiser = ResidualQuantiser(latents, 2, 2, seed=0)
    books, codes = quantiser.codebooks.clone(), quantiser.encode(latents)
    quantised, commitment = quantiser.learn(latents)
    expected = 0.0
    for row in range(5):
        residual = latents[row].detach()
        for level in range(2):
            residual = residual - books[level, codes[row, level]]
            expected += float(residual.square().sum()) / 5
        torch.testing.assert_close(quantised[row], latents[row].detach() - residual)
    assert commitment.item() == pytest.approx(expected, rel=1e-5)
    commitment.backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_rotation_is_the_rotation_of_the_paper() -> None:
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(6, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    quantised = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    turned = rotate(latents, quantised)
    torch.testing.assert_close(turned, quantised)
    upstream = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    (got,) = torch.autograd.grad(turned, latents, upstream)
    for row in range(6):  # the explicit matrix: stretch * (I - 2 r r^T + 2 q e^T)
        e, q = latents[row].detach(), quantised[row]
        start, end = e / e.norm(), q / q.norm()
        r = (start + end) / (start + end).norm()
        rotation = torch.eye(4) - 2 * torch.outer(r, r) + 2 * torch.outer(end, start)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(4, dtype=torch.float64))
        torch.testing.assert_close(got[row], (q.norm() / e.norm()) * rotation.T @ upstream[row])


def test_rotation_survives_rows_without_direction() -> None:
    latents = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    quantised = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-1.0, 0.0]])
    turned = rotate(latents, quantised)
    torch.testing.assert_close(turned, quantised)
    turned.sum().backward()
    assert latents.grad is not None
    assert torch.isfinite(latents.grad).all()
    assert torch.equal(latents.grad[:2], torch.ones(2, 2))


def test_straight_through_copies_the_gradient() -> None:
    latents = torch.randn(3, 2, requires_grad=True)
    passed = straight_through(latents, torch.ones(3, 2))
    torch.testing.assert_close(passed, torch.ones(3, 2))
    passed.sum().backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad, torch.ones(3, 2))


def test_report() -> None:
    chosen = torch.tensor([[0, 1], [0, 1], [1, 1], [2, 1]])
    report = describe_codes(chosen, 4)
    entropy = -(0.5 * torch.tensor(0.5).log() + 0.5 * torch.tensor(0.25).log())
    assert report["perplexity"] == pytest.approx([float(entropy.exp()), 1.0])
    assert report["dead_codes"] == [1, 3]
    assert report["collision_rate"] == 0.5


def test_same_seed_same_codes(inputs: Tensor) -> None:
    first, second = trained(inputs, epochs=2), trained(inputs, epochs=2)
    assert torch.equal(first.codes, second.codes)
    assert torch.equal(first.codebooks, second.codebooks)
    assert torch.equal(first.coder.encode(inputs), first.codes)
    assert first.report == second.report
    assert json.loads(json.dumps(first.report, allow_nan=False)) == first.report


@pytest.mark.parametrize(("n", "codes"), [(2, 1), (2, 5), (3, 300), (7, 2)])
def test_few_items_many_codes(inputs: Tensor, n: int, codes: int) -> None:
    made = trained(inputs[:n], levels=2, codes=codes, epochs=3)
    assert made.codes.shape == (n, 2)
    assert torch.isfinite(made.codebooks).all()
    if codes >= n:
        assert made.report["collision_rate"] == 0


def test_equal_inputs_are_refused() -> None:
    with pytest.raises(CollapseError, match="no two of the 1 items"):
        trained(torch.ones(1, 5))
