"""Which uploads enter a sum, and how long they may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.encodings import Float32
from fedpeft.protocol.messages import Broadcast, Upload
from fedpeft.protocol.uploads import DenseUpload
from fedpeft.server.admission import Admission
from fedpeft.simulation.work import sound
from fedpeft.testing.toy import GRADIENT
from fedpeft.transforms import UpdateTransform
from fedpeft.transforms.clip import Clip, ClipConfig
from toys import toy

SHAPES = {"a": torch.Size((2, 2)), "b": torch.Size((3,))}
CODEC = DenseUpload(Float32(), SHAPES)
CHANGE = {"a": torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "b": torch.zeros(3)}
SAMPLES = toy("full", "bpr", **GRADIENT).simulation().task
UNIFORM = toy("full").simulation().task
N = 15


class Longer(UpdateTransform):
    """Doubles a change, and so undoes a bound."""

    def on_user(self, change: dict, ids: torch.Tensor) -> dict:
        return {name: 2 * tensor for name, tensor in change.items()}


def upload(change: dict[str, torch.Tensor], weight: float = 1.0, loss: float = 0.5) -> Upload:
    data = CODEC.encode(change, torch.arange(0), None)
    return Upload.from_bytes(Upload(0, 0, weight, loss, data).to_bytes())


def clips(*norms: float | None) -> list[UpdateTransform]:
    return [Longer() if norm is None else Clip(ClipConfig(norm=norm), 0) for norm in norms]


def spoilt(value: float) -> dict[str, torch.Tensor]:
    return CHANGE | {"b": torch.tensor([0.0, value, 0.0])}


def test_what_fits_enters_as_it_was_sent() -> None:
    for transforms in ([], clips(5.0)):
        found = Admission(UNIFORM, transforms).of(upload(CHANGE), CODEC)
        assert found is not None
        assert all(torch.equal(found[name], CHANGE[name]) for name in CHANGE)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out(value: float) -> None:
    for transforms in ([], clips(1.0)):
        admission = Admission(UNIFORM, transforms)
        assert admission.of(upload(spoilt(value)), CODEC) is None
        assert admission.of(upload(CHANGE, loss=value), CODEC) is None


def test_nobody_weighs_more_than_the_catalogue() -> None:
    by_samples, alike = Admission(SAMPLES, []), Admission(UNIFORM, [])
    assert by_samples.of(upload(CHANGE, weight=N), CODEC) is not None
    assert by_samples.of(upload(CHANGE, weight=N + 1), CODEC) is None
    assert alike.of(upload(CHANGE, weight=1), CODEC) is not None
    assert alike.of(upload(CHANGE, weight=1.5), CODEC) is None


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b""])
def test_a_payload_of_another_length_is_left_out(spoil) -> None:
    right = upload(CHANGE)
    wrong = replace(right, payload=spoil(right.payload))
    assert Admission(UNIFORM, []).of(wrong, CODEC) is None


@pytest.mark.parametrize(("bound", "weight", "factor"), [(1.0, 1.0, 1 / 5), (2.0, 2.0, 4 / 5)])
def test_what_is_too_long_is_scaled_to_the_bound(
    bound: float, weight: float, factor: float
) -> None:
    """The bound is on the change; the weight comes on top."""
    found = Admission(SAMPLES, clips(bound)).of(upload(CHANGE, weight=weight), CODEC)
    assert found is not None
    for name, tensor in CHANGE.items():
        torch.testing.assert_close(found[name], factor * tensor, rtol=2e-5, atol=0)


def test_a_client_without_weight_moves_nothing() -> None:
    """Who has no train item sends zeros; anything else under that weight is left out."""
    admission = Admission(SAMPLES, clips(1.0))
    assert admission.of(upload(CHANGE, weight=0.0), CODEC) is None
    nothing = {name: torch.zeros_like(tensor) for name, tensor in CHANGE.items()}
    found = admission.of(upload(nothing, weight=0.0), CODEC)
    assert found is not None
    assert not any(tensor.any() for tensor in found.values())


def test_a_length_beyond_float32_is_bounded_all_the_same() -> None:
    far = {name: torch.full_like(tensor, 1e30) for name, tensor in CHANGE.items()}
    found = Admission(UNIFORM, clips(1.0)).of(upload(far), CODEC)
    assert found is not None
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert sum(float(tensor.square().sum()) for tensor in found.values()) <= 1.001


@pytest.mark.parametrize(
    ("norms", "bound"),
    [
        ((), None),
        ((1.0,), 1.0),
        ((1.0, 3.0), 1.0),
        ((3.0, 1.0), 1.0),
        ((1.0, None), None),  # whatever comes later may be longer, and honestly so
        ((None, 1.0), 1.0),
        ((1.0, None, 3.0), 3.0),
    ],
)
def test_the_smallest_bound_holds_that_nothing_undoes(
    norms: Sequence[float | None], bound: float | None
) -> None:
    found = Admission(UNIFORM, clips(*norms)).of(upload(CHANGE), CODEC)
    assert found is not None
    length = math.sqrt(sum(float(tensor.square().sum()) for tensor in found.values()))
    assert length == pytest.approx(5.0 if bound is None else bound, rel=1e-4)


def test_clients_are_bounded_each_on_its_own() -> None:
    stacked = {"a": torch.stack([CHANGE["a"], CHANGE["a"] / 10, CHANGE["a"]])}
    weights = torch.tensor([1.0, 1.0, 10.0])
    found = Admission(SAMPLES, clips(1.0)).bounded(stacked, weights)["a"]
    torch.testing.assert_close(found[0], CHANGE["a"] / 5, rtol=2e-5, atol=0)
    assert torch.equal(found[1:], stacked["a"][1:])


def test_a_sum_counts_who_was_left_out() -> None:
    """A rejected upload adds neither weight nor loss; who is left has the mean."""
    simulation = toy("full").simulation("sequential")
    total = simulation._work()[0].empty()
    codec, admission = simulation.pipeline.uploads, simulation.admission
    one = {name: torch.ones_like(tensor) for name, tensor in total.sum.items()}
    bad = {name: torch.full_like(tensor, math.nan) for name, tensor in one.items()}
    for change, loss in ((one, 2.0), (bad, 2.0), (one, math.nan), (one, 4.0)):
        data = codec.encode(change, torch.arange(0), None)
        sent = Upload(0, 0, 1.0, loss, data).to_bytes()
        total = admission.add(total, sent, codec, Broadcast(0, 0, bytes(32), b""))
    assert (total.weight, total.clients, total.rejected, total.loss) == (2.0, 2, 2, 3.0)
    assert all((tensor == 2).all() for tensor in total.sum.values())


class TestSound:
    """What the fast backends ask of stacked clients is what the loop asks of each."""

    cases: ClassVar = [(0.5, CHANGE), (0.5, spoilt(math.nan)), (math.inf, CHANGE)]

    def test_agrees_with_single_uploads(self) -> None:
        stacked = {n: torch.stack([change[n] for _, change in self.cases]) for n in CHANGE}
        losses = torch.tensor([loss for loss, _ in self.cases])
        admission = Admission(UNIFORM, [])
        alone = [admission.of(upload(c, loss=loss), CODEC) is not None for loss, c in self.cases]
        assert sound(losses, stacked).tolist() == alone == [True, False, False]


def test_an_upload_that_answers_another_broadcast_is_left_out() -> None:
    """Late, replayed, or of the base before a merge."""
    simulation = toy("full").simulation("sequential")
    work, _ = simulation._work()
    assert work.message is not None
    data = simulation.upload_of(3).to_bytes()
    codec, empty = work.pipeline.uploads, work.empty()
    admission = simulation.admission
    assert admission.add(empty, data, codec, work.message).clients == 1
    for other in (replace(work.message, round=1), replace(work.message, version=1)):
        total = admission.add(empty, data, codec, other)
        assert (total.clients, total.rejected) == (0, 1)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1e-45, 2.0])
def test_all_weigh_alike_where_the_loss_is_a_sum(weight: float) -> None:
    assert Admission(toy("full").simulation().task, []).of(upload(CHANGE, weight), CODEC) is None


@pytest.mark.parametrize("weight", [0.5, 1e-45, 0.0])
def test_weights_are_numbers_of_samples(weight: float) -> None:
    admission = Admission(SAMPLES, [])
    assert admission.of(upload(CHANGE, weight), CODEC) is None
    nothing = {name: torch.zeros_like(tensor) for name, tensor in CHANGE.items()}
    assert (admission.of(upload(nothing, 0.0), CODEC) is None) is False


def test_uploads_that_are_huge_but_finite_do_not_ruin_the_state() -> None:
    """A step whose moments or payload would not be finite is not taken."""
    simulation = toy("full").simulation()
    work, state = simulation._work()
    huge = {name: torch.full_like(tensor, 3e38) for name, tensor in state.payload.items()}
    after = simulation.server.step(state, Partial(huge, 1.0, 1, 0, 1.0))
    assert after.round == state.round + 1
    assert after.payload is state.payload
    assert after.moments is state.moments
    assert work.empty().clients == 0
