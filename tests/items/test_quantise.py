"""Residual k-means against nearest-neighbour search, scikit-learn and vector-quantize-pytorch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedpeft.errors import InputError
from fedpeft.items import residual_kmeans
from fedpeft.items.coded import coded_bytes
from fedpeft.items.quantise import fit_codebooks, nearest_entry, revive


def rebuild(codes: Tensor, books: Tensor) -> Tensor:
    """Slow and readable: add the entries up, item by item."""
    return torch.stack([sum(books[j, c] for j, c in enumerate(row)) for row in codes.tolist()])


def lost(vectors: Tensor, codes: Tensor, books: Tensor) -> float:
    return float((rebuild(codes, books) - vectors).square().sum())


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    k=st.integers(1, 5),
    levels=st.integers(1, 4),
    codes=st.integers(1, 12),
    distinct=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1000.0]),
    seed=st.integers(0, 3),
)
def test_any_shape(
    n: int, k: int, levels: int, codes: int, distinct: int, offset: float, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    pool = torch.randn(distinct, k, generator=rng)
    rows = torch.randint(distinct, (n,), generator=rng)
    vectors = pool[rows] + offset
    chosen, books = residual_kmeans(vectors, levels, codes, seed)
    assert chosen.shape == (n, levels)
    assert chosen.dtype == torch.int64
    assert books.shape == (levels, codes, k)
    assert books.dtype == torch.float32
    assert 0 <= int(chosen.min()) <= int(chosen.max()) < codes
    assert torch.isfinite(books).all()
    for row in range(n):  # equal vectors, equal codes
        assert (chosen[rows == rows[row]] == chosen[row]).all()
    exact = len(rows.unique()) <= codes
    if exact:
        torch.testing.assert_close(rebuild(chosen, books), vectors, rtol=1e-5, atol=1e-5)
    found, again = fit_codebooks(vectors, levels, codes, seed)
    assert torch.equal(again, chosen)
    assert torch.equal(found.tables(), books)
    assert torch.equal(found.encode(vectors), chosen)


def test_zero_vectors_get_zero_codebooks() -> None:
    codes, books = residual_kmeans(torch.zeros(7, 3), 2, 4, 0)
    assert not codes.any()
    assert not books.any()


def test_every_level_lowers_the_error(inputs: Tensor) -> None:
    errors = [lost(inputs, *residual_kmeans(inputs, levels, 8, 0)) for levels in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_codes_are_nearest_entries_level_by_level(inputs: Tensor) -> None:
    codes, books = residual_kmeans(inputs, 3, 16, 0)
    residual = inputs.double()
    for level, book in enumerate(books.double()):
        distance = torch.cdist(residual, book)
        best = distance.min(dim=1).values
        torch.testing.assert_close(distance.gather(1, codes[:, level : level + 1])[:, 0], best)
        residual = residual - book[codes[:, level]]


def test_codes_equal_those_of_vector_quantize_pytorch(inputs: Tensor) -> None:
    oracle_library = pytest.importorskip("vector_quantize_pytorch")
    codes, books = residual_kmeans(inputs, 3, 16, 0)
    oracle = oracle_library.ResidualVQ(dim=24, num_quantizers=3, codebook_size=16)
    for layer, book in zip(oracle.layers, books, strict=True):
        layer._codebook.embed.data.copy_(book[None])
        layer._codebook.initted.data.fill_(True)
    oracle.eval()
    with torch.no_grad():
        _, expected, _ = oracle(inputs[None])
    assert torch.equal(codes, expected[0])


def test_as_good_as_scikit_learn(inputs: Tensor) -> None:
    from sklearn.cluster import KMeans

    ours = sum(lost(inputs, *residual_kmeans(inputs, 1, 12, seed, 20)) for seed in range(5)) / 5
    theirs = [
        KMeans(12, n_init=1, max_iter=20, random_state=seed).fit(inputs.numpy()).inertia_
        for seed in range(5)
    ]
    assert ours < 1.1 * sum(theirs) / 5


def test_fits_on_a_sample_and_assigns_all() -> None:
    vectors = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0))
    codes, books = residual_kmeans(vectors, 1, 4, 0)  # fitted on 4 * FIT_ROWS_PER_CODE
    assert codes.shape == (3000, 1)
    full = [lost(vectors[:256], *residual_kmeans(vectors[:256], 1, 4, seed)) for seed in range(3)]
    assert lost(vectors, codes, books) / 3000 < 1.5 * min(full) / 256


def test_seeds_matter(inputs: Tensor) -> None:
    assert not torch.equal(
        residual_kmeans(inputs, 1, 16, 0)[1], residual_kmeans(inputs, 1, 16, 1)[1]
    )


def test_the_callers_vectors_are_left_alone(inputs: Tensor) -> None:
    vectors = inputs.clone().requires_grad_()
    codes, books = residual_kmeans(vectors, 2, 4, 0)
    assert torch.equal(vectors, inputs)
    assert not books.requires_grad
    assert not codes.requires_grad


def test_empty_entries_move_to_the_worst_served() -> None:
    vectors = torch.tensor([[0.0], [1.0], [9.0]])
    book = torch.tensor([[0.0], [50.0], [60.0], [70.0]])
    _, distance = nearest_entry(vectors, book)
    moved = revive(book, torch.tensor([1, 2, 3]), vectors, distance)
    assert moved.flatten().tolist() == [0.0, 9.0, 1.0, 70.0]  # the vector at 0 needs no entry


@pytest.mark.parametrize(
    ("vectors", "counts", "word"),
    [
        (torch.zeros(3), (1, 1, 1), "shape"),
        (torch.zeros(0, 3), (1, 1, 1), "shape"),
        (torch.zeros(3, 0), (1, 1, 1), "shape"),
        (torch.zeros(3, 3), (0, 1, 1), "levels"),
        (torch.zeros(3, 3), (1, 0, 1), "levels"),
        (torch.zeros(3, 3), (1, 1, 0), "levels"),
        (torch.tensor([[0.0, float("nan")]]), (1, 1, 1), "finite"),
        (torch.tensor([[0.0, float("inf")]]), (1, 1, 1), "finite"),
    ],
)
def test_bad_input_is_refused(vectors: Tensor, counts: tuple[int, int, int], word: str) -> None:
    levels, codes, iterations = counts
    with pytest.raises(InputError, match=word):
        residual_kmeans(vectors, levels, codes, 0, iterations)


def test_bytes_of_a_coded_table_by_hand() -> None:
    """18 bits of codes, and two codebooks of five rows of two float32 values."""
    assert coded_bytes(items=3, dim=2, levels=2, codes=5) == 5 + 3 + 80
    assert coded_bytes(items=1_000_000, dim=32, levels=4, codes=256) == 5 + 4_000_000 + 131_072
