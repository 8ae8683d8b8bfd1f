"""The losses this project ships keep the contract."""

from __future__ import annotations

from typing import ClassVar

from fedpeft.testing import LossContract


class TestBPR(LossContract):
    kind = "bpr"
    ndcg_floor = 0.9


class TestBPRManyNegatives(LossContract):
    kind = "bpr"
    config: ClassVar = {"negatives": 3}
    ndcg_floor = 0.75


class TestBCE(LossContract):
    kind = "bce"
    ndcg_floor = 0.6


class TestIALS(LossContract):
    kind = "ials"
    config: ClassVar = {"unobserved_weight": 0.2}
    ndcg_floor = 0.8


class TestSoftmax(LossContract):
    kind = "softmax"
    ndcg_floor = 0.8


class TestSoftmaxManyNegatives(LossContract):
    kind = "softmax"
    config: ClassVar = {"negatives": 3, "rivals": 5.0}
    ndcg_floor = 0.7
