"""Residual k-means: vectors as sums of one codebook entry per level, found in milliseconds.

Used to start the RQ-VAE's codebooks and to derive codes anew at every merge and refresh.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedpeft.errors import ArtifactError, InputError
from fedpeft.items.networks import CHUNK
from fedpeft.items.state import State
from fedpeft.seeding import torch_rng

FIT_ROWS_PER_CODE = 64
"""A codebook of d codes is fitted on at most this many times d vectors, sampled."""


@dataclass(frozen=True, eq=False)
class Codebooks:
    """What residual k-means found: l codebooks with which vectors of the same kind are coded.

    Attributes
    ----------
    mean
        Mean of the vectors it was fitted on, float32 of shape (k,).
    centres
        Entries of the codebooks without that mean, float32 of shape (l, d, k).
    used
        int64 of shape (l,): the entries of each codebook beyond these repeat its first.
    """

    mean: Tensor
    centres: Tensor
    used: Tensor

    def tables(self) -> Tensor:
        """Return the codebooks whose entries add up to vectors, float32 of shape (l, d, k)."""
        return torch.cat([self.centres[:1] + self.mean, self.centres[1:]])

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the codes of (m, k) vectors, int64 of shape (m, l)."""
        books = zip(self.centres, self.used.tolist(), strict=True)
        # a copy, as fitting had it: products of matrices may round by where the memory begins
        return nearest_codes(vectors - self.mean, [book[:size].clone() for book, size in books])

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors (m, k) that codes (m, l) stand for."""
        return sum_entries(self.tables(), codes)

    def state(self) -> State:
        """Return all it consists of."""
        return State({"mean": self.mean, "centres": self.centres, "used": self.used})

    @classmethod
    def of(cls, state: State) -> Codebooks:
        """Rebuild what `state` returned; raises `ArtifactError` if it does not fit together."""
        mean = state.tensor("mean", None)
        centres = state.tensor("centres", None, None, len(mean))
        levels, codes = centres.shape[:2]
        used = state.tensor("used", levels, dtype=torch.int64)
        if levels == 0 or not ((used >= 1) & (used <= codes)).all():
            raise ArtifactError(
                f"{state.where} says that {used.tolist()} of {codes} codes are in use"
            )
        return cls(mean, centres, used)


def residual_kmeans(
    vectors: Tensor, levels: int, codes: int, seed: int, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    """Quantise vectors as `fit_codebooks` does.

    Returns
    -------
    codes
        int64 of shape (n, l), each in [0, d).
    codebooks
        float32 of shape (l, d, k); vector i is approximated by the sum over j of
        ``codebooks[j, codes[i, j]]``.  Where there are fewer distinct residuals than codes, the
        last entries repeat the first and are not used.
    """
    found, chosen = fit_codebooks(vectors, levels, codes, seed, iterations)
    return chosen, found.tables()


def fit_codebooks(
    vectors: Tensor, levels: int, codes: int, seed: int, iterations: int = 10
) -> tuple[Codebooks, Tensor]:
    """Quantise vectors level by level, each level clustering what the levels before left over.

    Parameters
    ----------
    vectors
        Floating point, shape (n, k), n >= 1.
    levels, codes
        l codebooks of d entries each.
    seed
        Same vectors and seed, same result.
    iterations
        Lloyd iterations per level, after a greedy k-means++ start (Arthur and Vassilvitskii
        2007).

    Returns
    -------
    The codebooks, and the codes of the vectors, int64 of shape (n, l).

    Raises
    ------
    InputError
        If a count is below 1, or the vectors are empty, not finite or not a matrix.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise InputError(f"vectors must have shape (n, k), both >= 1, not {tuple(vectors.shape)}")
    if min(levels, codes, iterations) < 1:
        raise InputError(
            f"levels, codes and iterations must be >= 1, got {levels}, {codes}, {iterations}"
        )
    if not torch.isfinite(vectors).all():
        raise InputError("vectors must be finite to be quantised, these hold NaN or infinities")
    rng = torch_rng(seed, "residual k-means")
    mean = vectors.detach().double().mean(dim=0).float()
    residual = vectors.detach().float() - mean  # without a common offset distances stay exact
    fit = torch.arange(len(residual))
    if len(residual) > FIT_ROWS_PER_CODE * codes:
        fit = torch.randperm(len(residual), generator=rng)[: FIT_ROWS_PER_CODE * codes]
    chosen, books, used = [], [], []
    for _ in range(levels):
        centres = _kmeans(residual[fit], codes, iterations, rng)
        nearest, _ = nearest_entry(residual, centres)
        residual = residual - centres[nearest]
        chosen.append(nearest)
        books.append(torch.cat([centres, centres[:1].expand(codes - len(centres), -1)]))
        used.append(len(centres))
    found = Codebooks(mean, torch.stack(books), torch.tensor(used))
    return found, torch.stack(chosen, dim=1)


def sum_entries(codebooks: Tensor, codes: Tensor) -> Tensor:
    """Return the vectors (n, k) that codes (n, l) stand for in codebooks (l, d, k)."""
    return codebooks[torch.arange(codes.shape[1]), codes].sum(dim=1)


def nearest_codes(vectors: Tensor, books: Iterable[Tensor]) -> Tensor:
    """Return codes of (n, k) vectors, int64 of shape (n, l), found level by level."""
    residual, chosen = vectors, []
    for book in books:
        nearest, _ = nearest_entry(residual, book)
        residual = residual - book[nearest]
        chosen.append(nearest)
    return torch.stack(chosen, dim=1)


def nearest_entry(vectors: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entry of `book` (d, k) nearest to each of (n, k) vectors, and how far it is.

    Returns
    -------
    int64 indices of shape (n,), and squared Euclidean distances of shape (n,).
    """
    squares = book.square().sum(dim=1)
    nearest, distance = [], []
    for chunk in vectors.split(CHUNK):
        # |x - c|^2 without |x|^2, which is the same for all entries
        value, index = torch.addmm(squares, chunk, book.T, alpha=-2).min(dim=1)
        nearest.append(index)
        distance.append((value + chunk.square().sum(dim=1)).clamp(min=0))
    return torch.cat(nearest), torch.cat(distance)


def revive(book: Tensor, empty: Tensor, vectors: Tensor, distance: Tensor) -> Tensor:
    """Return `book` with its `empty` entries moved onto the vectors that are served worst.

    Parameters
    ----------
    empty
        int64 indices of the entries that no vector uses.
    distance
        Squared distance of each vector to its entry, shape (n,); vectors at 0 attract no entry.
    """
    worst = distance.topk(min(len(empty), len(distance)))
    useful = worst.indices[worst.values > 0]
    moved = book.clone()
    moved[empty[: len(useful)]] = vectors[useful]
    return moved


def cluster_sums(vectors: Tensor, assigned: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """Return the sum (d, k) and the number (d,) of the vectors assigned to each code."""
    sums = vectors.new_zeros(codes, vectors.shape[1]).index_add_(0, assigned, vectors)
    return sums, torch.bincount(assigned, minlength=codes).to(vectors.dtype)


def describe_codes(chosen: Tensor, codes: int) -> dict[str, Any]:
    """Return how well codes of n items use d codes per level, ready for JSON.

    Parameters
    ----------
    chosen
        int64 of shape (n, l), each in [0, d).
    codes
        d.

    Returns
    -------
    dict
        ``perplexity`` per level, exp of the entropy of its codes' shares, between 1 and d;
        ``dead_codes`` per level, codes that no item has; ``collision_rate``, the share of items
        that have all their codes in common with another item.
    """
    shares = torch.stack(
        [torch.bincount(level, minlength=codes) / len(chosen) for level in chosen.T]
    )
    perplexity = torch.exp(-torch.xlogy(shares, shares).sum(dim=1))
    _, sharing = torch.unique(chosen, dim=0, return_counts=True)
    return {
        "perplexity": perplexity.tolist(),
        "dead_codes": (shares == 0).sum(dim=1).tolist(),
        "collision_rate": float(sharing[sharing > 1].sum()) / len(chosen),
    }


def _kmeans(vectors: Tensor, codes: int, iterations: int, rng: torch.Generator) -> Tensor:
    """Return centres of (n, k) vectors, at most `codes` and at most one per distinct vector."""
    book = _spread_start(vectors, codes, rng)
    codes = len(book)
    for turn in range(iterations):
        assigned, distance = nearest_entry(vectors, book)
        sums, counts = cluster_sums(vectors, assigned, codes)
        used = counts > 0
        book = torch.where(used[:, None], sums / counts.clamp(min=1)[:, None], book)
        empty = torch.nonzero(~used).flatten()
        if len(empty) and turn < iterations - 1:
            book = revive(book, empty, vectors, distance)
    return book


def _spread_start(vectors: Tensor, codes: int, rng: torch.Generator) -> Tensor:
    """Draw centres by greedy k-means++: far from those drawn before, the best of a few tries.

    Returns at most `codes` centres, and at most one per distinct vector.
    """
    last, tries = len(vectors) - 1, 2 + int(math.log(codes))
    draws = torch.rand(codes, tries, generator=rng, dtype=torch.float64)
    squares = vectors.square().sum(dim=1)
    noise = 1e-6 * float(squares.max())  # below float32 resolution a difference is rounding
    distance = squares.new_ones(len(vectors))
    picked: list[Tensor] = []
    for draw in draws:
        total = distance.cumsum(0, dtype=torch.float64)
        if total[-1] <= 0:  # fewer distinct vectors than codes
            break
        drawn = torch.searchsorted(total, draw * total[-1], right=True).clamp(max=last)
        away = torch.addmm(squares[:, None], vectors, vectors[drawn].T, alpha=-2) + squares[drawn]
        away = torch.where(away > noise, away, 0)
        if picked:
            away = torch.minimum(away, distance[:, None])
        best = away.sum(dim=0).argmin()
        distance = away[:, best].contiguous()
        picked.append(drawn[best])
    return vectors[torch.stack(picked)]
