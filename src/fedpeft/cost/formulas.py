"""The formulas of the documentation, as text; the tests evaluate them beside the running system.

n items of k values, rank r, d rows or codes, h hashes, s = max(1, h // 2), l levels, b items that a
client touches.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Formulas:
    """One strategy's costs in P- mode; Python expressions.

    Attributes
    ----------
    payload
        Values that travel each way in a round.
    base, codes
        Bytes of the initial download.
    kept_codes
        Bytes that codes or hash coefficients take in memory.
    matmul, elementwise, integer
        Operations of one item vector.
    step_matmul
        Operations in matrix products of one training step.
    rank
        Bound on the rank of the corrections.
    """

    payload: str
    base: str = "4 * n * k"
    codes: str = "0"
    kept_codes: str = "0"
    matmul: str = "0"
    elementwise: str = "0"
    integer: str = "0"
    step_matmul: str = "0"
    rank: str = "min(n, k)"


FORMULAS = {
    "Full": Formulas(payload="n * k", base="0"),
    "LoRA": Formulas(
        payload="n * r + r * k",
        matmul="2 * r * k",
        elementwise="k",
        step_matmul="6 * b * r * k",
        rank="min(n, k, r)",
    ),
    "Hash": Formulas(
        payload="d * k",
        codes="16 * h",
        kept_codes="16 * h",
        elementwise="h * k + k",
        integer="4 * h",
        rank="min(n, k, d)",
    ),
    "Hash-SENet": Formulas(
        payload="d * k + 2 * h * s",
        codes="16 * h",
        kept_codes="16 * h",
        matmul="4 * h * s",
        elementwise="3 * h * k + 3 * h + s",
        integer="4 * h",
        step_matmul="12 * b * h * s",
        rank="min(n, k, d)",
    ),
    "RQ": Formulas(
        payload="l * d * k",
        codes="ceil(n * l * ceil(log2(d)) / 8)",
        kept_codes="8 * n * l",
        elementwise="l * k",
        rank="min(n, k, l * (d - 1) + 1)",
    ),
}
