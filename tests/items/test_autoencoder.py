"""The base embedding keeps what texts say, or fails loudly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedpeft.errors import CollapseError, RunError
from fedpeft.items import ItemsConfig
from fedpeft.items.autoencoder import check, principal_components, train_autoencoder
from fedpeft.items.linear import linear_autoencoder
from fedpeft.items.networks import Scaling, mlp, start_linear


def quiet(stage: str, fraction: float) -> None:
    pass


def config(**training: float) -> ItemsConfig:
    return ItemsConfig(dim=4, hidden=(32, 16), autoencoder={"batch_size": 32, **training})


def test_scaling_gives_zero_mean_and_unit_variance(inputs: Tensor) -> None:
    scaled = Scaling.of(inputs * 7 + 3)(inputs * 7 + 3)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(24), atol=1e-5, rtol=0)
    assert float(scaled.square().mean()) == pytest.approx(1, rel=1e-5)


def test_equal_rows_have_no_scale() -> None:
    row = torch.rand(1, 50, generator=torch.Generator().manual_seed(0)) * 1000
    assert Scaling.of(row.repeat(33, 1)).std == 0


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 9),
    hidden=st.lists(st.integers(1, 9), max_size=3),
    dim=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_a_network_starts_as_the_linear_map(
    width: int, hidden: list[int], dim: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    network = mlp([width, *hidden, dim], rng)
    inward, outward = torch.randn(4, width, generator=rng), torch.randn(dim, 4, generator=rng)
    start_linear(network, inward, outward)
    carried = min([4, *(size // 2 for size in hidden)])
    vectors = torch.randn(6, width, generator=rng)
    expected = vectors @ inward[:carried].T @ outward[:, :carried].T
    torch.testing.assert_close(network(vectors), expected, rtol=1e-4, atol=1e-4)


def test_principal_components_equal_scikit_learn(inputs: Tensor) -> None:
    from sklearn.decomposition import PCA

    _, latents, report = principal_components(inputs, 5)
    oracle = PCA(5).fit(inputs.numpy())
    assert report.unexplained == pytest.approx(1 - oracle.explained_variance_ratio_.sum(), rel=1e-4)
    expected = torch.from_numpy(oracle.transform(inputs.numpy())).abs()
    ratio = latents.abs() / expected  # axes may point either way; one factor scales all
    torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=5e-2, atol=5e-2)


def test_columns_beyond_the_inputs_are_zero(inputs: Tensor) -> None:
    _, latents, _ = principal_components(inputs[:, :3], 5)
    assert latents.shape == (300, 5)
    assert not latents[:, 3:].any()


def test_starts_at_and_improves_on_the_linear_optimum(inputs: Tensor) -> None:
    _, _, linear = principal_components(inputs, 4)
    scaling = Scaling.of(inputs)
    encoder, decoder = linear_autoencoder(inputs, scaling, (32, 16), 4, torch.Generator())
    target = scaling(inputs)
    with torch.no_grad():
        error = float((decoder(encoder(target)) - target).square().mean())
    assert error == pytest.approx(linear.unexplained, rel=1e-4)
    network, latents, trained = train_autoencoder(inputs, config(epochs=40), quiet)
    assert latents.shape == (300, 4)
    assert torch.equal(network(inputs), latents)
    assert trained.unexplained < 0.9 * linear.unexplained
    assert len(trained.latent_variance) == 4
    assert 1 <= trained.effective_rank <= 4


def test_same_seed_same_latents(inputs: Tensor) -> None:
    torch.manual_seed(1)
    _, first, _ = train_autoencoder(inputs, config(epochs=2), quiet)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    _, second, _ = train_autoencoder(inputs, config(epochs=2), quiet)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    other = config(epochs=2).model_copy(update={"seed": 1})
    assert not torch.equal(train_autoencoder(inputs, other, quiet)[1], first)


def test_progress_ends_at_one_and_steps_are_capped(inputs: Tensor) -> None:
    seen: list[tuple[str, float]] = []
    train_autoencoder(
        inputs, config(epochs=1000, max_steps=7), lambda stage, done: seen.append((stage, done))
    )
    assert len(seen) == 7
    assert {stage for stage, _ in seen} == {"autoencoder"}
    assert seen[-1][1] == 1.0


def test_l2_on_all_weights_collapses_and_is_noticed() -> None:
    # inputs whose variance is spread over many columns, as text vectors have it
    inputs = torch.randn(200, 256, generator=torch.Generator().manual_seed(0))
    training = {"epochs": 100, "batch_size": 64, "learning_rate": 1e-2}
    common = {"dim": 8, "hidden": (32, 32)}
    healthy = ItemsConfig(autoencoder=training, **common)
    assert train_autoencoder(inputs, healthy, quiet)[2].unexplained < 0.9
    decayed = ItemsConfig(autoencoder={**training, "weight_decay": 1e-2}, **common)
    with pytest.raises(CollapseError, match=r"has collapsed: .*weight_decay"):
        train_autoencoder(inputs, decayed, quiet)


def test_constant_latents_and_useless_reconstructions_are_refused() -> None:
    good = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert check(good, 0.5).effective_rank > 2
    with pytest.raises(CollapseError):
        check(torch.ones(20, 3), 0.5)
    with pytest.raises(CollapseError):
        check(good, 0.999)


@pytest.mark.parametrize("rows", [torch.ones(1, 5), torch.ones(4, 5), torch.zeros(3, 5)])
def test_equal_inputs_are_refused(rows: Tensor) -> None:
    with pytest.raises(CollapseError, match="no two of the"):
        train_autoencoder(rows, config(), quiet)
    with pytest.raises(CollapseError, match=r"items\.base to 'none'"):
        principal_components(rows, 2)


def test_a_diverging_loss_is_an_error(inputs: Tensor) -> None:
    with pytest.raises(RunError, match="lower the learning rate"):
        train_autoencoder(inputs, config(learning_rate=1e30), quiet)


def test_two_items_are_enough() -> None:
    _, latents, report = train_autoencoder(torch.eye(2), config(epochs=3), quiet)
    assert torch.isfinite(latents).all()
    assert report.unexplained < 0.5
