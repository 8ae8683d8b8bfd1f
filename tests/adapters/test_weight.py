"""What reads an adapter's weight, and what writes into it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

import fedpeft
from fedpeft.adapters import ItemEmbedding
from fedpeft.errors import InputError

from .habits import (
    COMPUTED,
    SEQUENCES,
    K,
    N,
    swapped,
)

WRITES: dict[str, Callable[[ItemEmbedding, Tensor], object]] = {
    "copy_": lambda emb, new: emb.weight.copy_(new),
    "data.copy_": lambda emb, new: emb.weight.data.copy_(new),
    "data =": lambda emb, new: setattr(emb.weight, "data", new),
    "weight =": lambda emb, new: setattr(emb, "weight", new),
    "weight = Parameter": lambda emb, new: setattr(emb, "weight", nn.Parameter(new)),
    "row": lambda emb, new: emb.weight.__setitem__(3, new[3]),
    "row of data": lambda emb, new: emb.weight.data.__setitem__(3, new[3]),
    "row.copy_": lambda emb, new: emb.weight[3].copy_(new[3]),
    "detach().mul_": lambda emb, new: emb.weight.detach().mul_(2),
    "T.fill_": lambda emb, new: emb.weight.T.fill_(2),
    "init.normal_": lambda emb, new: nn.init.normal_(emb.weight),
    "init.xavier_uniform_": lambda emb, new: nn.init.xavier_uniform_(emb.weight),
    "init.orthogonal_": lambda emb, new: nn.init.orthogonal_(emb.weight),
    "init.trunc_normal_": lambda emb, new: nn.init.trunc_normal_(emb.weight),
    "init.constant_ of data": lambda emb, new: nn.init.constant_(emb.weight.data, 3),
    "out": lambda emb, new: torch.add(new, new, out=emb.weight),
    "+=": lambda emb, new: emb.weight.__iadd__(new),
    "data +=": lambda emb, new: emb.weight.data.__iadd__(new),
    "renorm": lambda emb, new: torch.embedding_renorm_(emb.weight, torch.tensor([1]), 1.0, 2.0),
    "freeze": lambda emb, new: emb.weight.requires_grad_(False),
    "freeze by =": lambda emb, new: setattr(emb.weight, "requires_grad", False),
}


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_effect_is_refused_with_the_way_out(kind: str, write: str) -> None:
    _, adapter = swapped(kind)
    before = adapter.merge()
    with torch.no_grad(), pytest.raises(InputError, match=r"set_base\(table\)"):
        WRITES[write](adapter, torch.ones(N, K))
    assert torch.equal(adapter.merge(), before)


def test_writes_to_a_full_table_act_as_on_an_embedding() -> None:
    for write in WRITES.values():
        torch.manual_seed(0)
        plain = nn.Embedding(N, K)
        model = nn.ModuleDict({"goods": copy.deepcopy(plain)})
        adapter = fedpeft.replace_embedding(model, "goods", kind="full")
        outcomes = []
        for table in (plain, adapter):
            torch.manual_seed(1)
            try:
                with torch.no_grad():
                    write(table, torch.ones(N, K))  # type: ignore[arg-type]
                outcomes.append(None)
            except TypeError as error:  # a plain tensor is no parameter
                outcomes.append(type(error))
        assert outcomes[0] is outcomes[1]
        assert torch.equal(adapter.weight, plain.weight)


READS: dict[str, Callable[[Tensor], object]] = {
    "len": len,
    "norm": lambda w: w.norm(),
    "numpy": lambda w: w.detach().cpu().numpy().sum(),
    "rows": lambda w: w[torch.tensor([3, 3])],
    "normalize": lambda w: F.normalize(w, dim=-1).sum(),
    "matmul": lambda w: torch.ones(2, K) @ w.T,
    "linear": lambda w: F.linear(torch.ones(2, K), w),
    "embedding": lambda w: F.embedding(torch.tensor([1, 2]), w, 0),
    "clone": lambda w: w.detach().clone().mul_(2),
    "into another": lambda w: torch.zeros(N, K).copy_(w.detach()).add_(w.detach()),
    "half": lambda w: w.half().float(),
    "parameter": lambda w: nn.Parameter(w.detach().clone()).requires_grad_(True),
    "from_pretrained": lambda w: nn.Embedding.from_pretrained(w.detach().clone()).weight,
    "deepcopy": lambda w: copy.deepcopy(w.detach()),
    "pickle": lambda w: pickle.loads(pickle.dumps(w.detach())),
    "topk": lambda w: w.topk(3).values,
    "repr": lambda w: repr(w).replace("ItemTable", "tensor"),
    "shape": lambda w: (w.shape, w.dtype, w.device, w.numel(), w.dim(), w.requires_grad),
}


@pytest.mark.parametrize("read", READS)
def test_whatever_reads_the_weight_gets_what_a_plain_tensor_gives(read: str) -> None:
    _, adapter = swapped()
    weight = adapter.weight
    found, expected = READS[read](weight), READS[read](weight.as_subclass(Tensor))
    if isinstance(found, Tensor):
        assert isinstance(expected, Tensor)
        torch.testing.assert_close(found.as_subclass(Tensor), expected)
    else:
        assert found == expected


def test_results_are_plain_tensors() -> None:
    _, adapter = swapped()
    weight = adapter.weight
    for result in (weight @ torch.ones(K), weight.clone(), weight + 1, weight.sum()):
        assert type(result) is Tensor
    assert type(pickle.loads(pickle.dumps(weight.detach()))) is Tensor


def test_weight_within_torch_func() -> None:
    model, adapter = swapped()
    payload = {f"items.{n}": torch.stack([t, t + 0.1]) for n, t in adapter.payload().items()}
    found = vmap(lambda own: functional_call(model, own, (SEQUENCES,)))(payload)
    torch.testing.assert_close(found[0], model(SEQUENCES))
    assert not torch.allclose(found[1], found[0])


def test_set_base() -> None:
    _, adapter = swapped()
    table = torch.randn(N, K)
    with pytest.raises(InputError, match="padding vector is not zero"):
        adapter.set_base(table)
    table[0] = 0
    mark = adapter.mark
    adapter.set_base(table)
    assert torch.equal(adapter(torch.arange(N)), table)
    assert adapter.mark != mark
    with torch.no_grad():
        adapter.get_parameter("B").fill_(0.5)
    correction = adapter.merge() - table
    adapter.set_base(2 * table)
    torch.testing.assert_close(adapter.merge() - 2 * table, correction)
    table[3, 3] = torch.nan
    for bad, said in ((table, "NaN"), (table[:-1], r"shape \(40, 8\), got \(39, 8\)")):
        with pytest.raises(InputError, match=said):
            adapter.set_base(bad)


def test_set_base_of_other_adapters() -> None:
    table = torch.randn(N, K)
    table[0] = 0
    _, full = swapped("full")
    full.set_base(table)
    assert torch.equal(full.merge(), table)
    _, alone = swapped(mode="compress")
    with pytest.raises(InputError, match="no base to set"):
        alone.set_base(table)
