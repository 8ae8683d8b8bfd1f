"""What torch users do with an embedding, done with an adapter in its place."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

import fedpeft
from fedpeft.adapters import ItemContext, ItemEmbedding, build
from fedpeft.adapters.lora import LoRAConfig
from fedpeft.errors import InputError, PayloadWarning

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"rank": 3},
    "hash": {"rows": 16},
    "rq": {"levels": 2, "codes": 8},
}
COMPUTED = [kind for kind in KINDS if kind != "full"]
N, K = 40, 8


class Sequential(nn.Module):
    """A next-item model with a tied softmax, as SASRec and GRU4Rec write it."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(N, K, padding_idx=0)
        self.mix = nn.Linear(K, K)
        self.bias = nn.Parameter(torch.zeros(N))

    def forward(self, sequences: Tensor) -> Tensor:
        state = self.mix(self.items(sequences)).tanh().mean(-2)
        return F.linear(state, self.items.weight, self.bias)


SEQUENCES, TARGETS = torch.tensor([[5, 7, 0, 0], [1, 2, 3, 39]]), torch.tensor([4, 6])


def swapped(kind: str = "lora", **settings: Any) -> tuple[Sequential, ItemEmbedding]:
    """Return a model with an adapter in it, and the adapter."""
    torch.manual_seed(0)
    model = Sequential()
    settings = {**KINDS[kind], **settings}
    return model, fedpeft.replace_embedding(model, "items", kind=kind, **settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(SEQUENCES), TARGETS).backward()
        optimizer.step()


# a tied softmax


@pytest.mark.parametrize("kind", KINDS)
def test_tied_softmax_trains_the_payload_from_both_ends(kind: str) -> None:
    """The gradient is that of the chain rule through a plain table."""
    model, adapter = swapped(kind)
    model(SEQUENCES)
    with torch.no_grad():
        for tensor in adapter.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    F.cross_entropy(model(SEQUENCES), TARGETS).backward()
    found = {name: tensor.grad.clone() for name, tensor in adapter.named_parameters()}
    adapter.zero_grad()

    plain = copy.deepcopy(model)
    fedpeft.merge_and_unload(plain)
    plain.items.padding_idx = None  # with padding, torch drops only what comes by a look-up
    F.cross_entropy(plain(SEQUENCES), TARGETS).backward()
    gradient = plain.items.weight.grad.clone()
    gradient[0] = 0
    adapter(torch.arange(N)).backward(gradient)
    for name, tensor in adapter.named_parameters():
        torch.testing.assert_close(found[name], tensor.grad, msg=name)


def test_full_table_with_a_tied_softmax_trains_as_an_embedding() -> None:
    torch.manual_seed(0)
    plain = Sequential()
    plain.items = nn.Embedding(N, K)
    model = copy.deepcopy(plain)
    fedpeft.replace_embedding(model, "items", kind="full")
    for one in (plain, model):
        train(one, torch.optim.AdamW(one.parameters(), lr=0.05))
    assert torch.equal(model.items.weight, plain.items.weight)


def test_two_embeddings_that_share_a_table_get_one_adapter() -> None:
    model = nn.ModuleDict({"source": nn.Embedding(N, K), "target": nn.Embedding(N, K)})
    model["target"].weight = model["source"].weight
    adapter = fedpeft.replace_embedding(model, "target", rank=2)
    assert model["source"] is model["target"] is adapter
    fedpeft.merge_and_unload(model)
    assert model["source"].weight is model["target"].weight


def test_tying_a_layer_to_a_computed_table_is_an_error() -> None:
    model, _ = swapped()
    layer = nn.Linear(K, N)
    with pytest.raises(TypeError, match="parameter 'weight'"):
        layer.weight = model.items.weight


# loops that initialise


def xavier(model: nn.Module) -> None:
    """As the transformer recommenders have it."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_normal_(parameter)


def uniform(model: nn.Module) -> None:
    """As SR-GNN has it."""
    for parameter in model.parameters():
        parameter.data.uniform_(-0.1, 0.1)


@pytest.mark.parametrize("loop", [xavier, uniform])
@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model(SEQUENCES),
        lambda model: model.items.weight,
        copy.deepcopy,
        pickle.dumps,
        lambda model: model.state_dict(),
        fedpeft.payload_state_dict,
        fedpeft.merge_and_unload,
    ],
    ids=["forward", "weight", "deepcopy", "pickle", "state_dict", "payload", "merge"],
)
def test_an_init_loop_after_the_swap_is_told_at_the_first_use(
    kind: str, loop: Callable[[nn.Module], None], use: Callable[[nn.Module], object]
) -> None:
    model, _ = swapped(kind)
    loop(model)
    with pytest.warns(PayloadWarning, match="up to .* off their base; .* before replace_embedding"):
        use(model)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        model(SEQUENCES)


def test_an_init_loop_is_told_when_the_adapter_is_saved(tmp_path: Any) -> None:
    model, _ = swapped()
    xavier(model)
    with pytest.warns(PayloadWarning):
        fedpeft.save_pretrained(model, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_init_loop_before_the_swap_is_welcome(kind: str) -> None:
    torch.manual_seed(0)
    model = Sequential()
    xavier(model)
    with torch.no_grad():
        model.items.weight[0] = 0
    expected = model(SEQUENCES)
    fedpeft.replace_embedding(model, "items", kind=kind, **KINDS[kind])
    assert torch.equal(model(SEQUENCES), expected)


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize("embeddings", [False, True])
def test_an_init_loop_over_modules_passes_adapters_by(kind: str, embeddings: bool) -> None:
    model, adapter = swapped(kind)
    before = adapter.merge()

    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Embedding if embeddings else nn.Linear):
            nn.init.normal_(module.weight)

    model.apply(init)
    assert torch.equal(model.items(torch.arange(N)), before)


@pytest.mark.parametrize("kind", COMPUTED)
def test_an_init_loop_over_everything_with_a_weight_is_refused(kind: str) -> None:
    model, adapter = swapped(kind)
    before = adapter.merge()
    with pytest.raises(InputError, match="set_base"):
        model.apply(lambda m: nn.init.normal_(m.weight) if hasattr(m, "weight") else None)
    assert torch.equal(adapter.merge(), before)


@pytest.mark.parametrize("mode", ["full", "compress"])
def test_an_adapter_that_is_the_table_may_be_initialised(mode: str) -> None:
    """There is no base that its vectors should equal; as with a plain embedding."""
    model, _ = swapped("full") if mode == "full" else swapped(mode="compress")
    xavier(model)
    assert model(SEQUENCES).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_written_in_whatever_way(kind: str) -> None:
    """What a server does is no init loop: by then the payload was copied, sent or used."""
    for write in (
        lambda own, new: setattr(own, "data", new),
        lambda own, new: own.data.copy_(new),
        lambda own, new: own.detach().copy_(new),
    ):
        server, _ = swapped(kind)
        clients = [copy.deepcopy(server) for _ in range(2)]
        for seed, client in enumerate(clients):
            train(client, torch.optim.Adam(client.parameters(), lr=0.01 * (seed + 1)))
        for name, own in server.named_parameters():
            write(
                own, sum(dict(client.named_parameters())[name].detach() for client in clients) / 2
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert server(SEQUENCES).isfinite().all()


def test_a_received_payload_needs_no_use_before_it() -> None:
    sender, _ = swapped()
    train(sender, torch.optim.Adam(sender.parameters(), lr=0.05))
    expected = sender(SEQUENCES)
    for load in (
        lambda model: model.load_state_dict(sender.state_dict()),
        lambda model: fedpeft.load_payload_state_dict(model, fedpeft.payload_state_dict(sender)),
    ):
        receiver, _ = swapped()
        xavier(receiver)  # all of it is overwritten
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(receiver)
            assert torch.equal(receiver(SEQUENCES), expected)


# writes to the weight

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


# options of nn.Embedding


@pytest.mark.parametrize("option", ["scale_grad_by_freq", "sparse"])
@pytest.mark.parametrize("padding", [None, 0])
def test_options_of_the_embedding_train_as_they_did(option: str, padding: int | None) -> None:
    """The full table is the table itself, so it must go where the embedding goes."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Embedding(N, K, padding_idx=padding, **{option: True}), nn.Tanh())
    model = copy.deepcopy(plain)
    fedpeft.replace_embedding(model, "0", kind="full")
    ids = torch.tensor([[3, 3, 3, 0], [7, 3, 0, 1]])
    for one in (plain, model):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(ids).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model[0].merge(), plain[0].weight.detach())
    fedpeft.merge_and_unload(model)
    assert model[0].scale_grad_by_freq == (option == "scale_grad_by_freq")


def test_sparse_adam_is_told_to_be_adam() -> None:
    model = nn.Sequential(nn.Embedding(N, K, sparse=True))
    fedpeft.replace_embedding(model, "0", kind="hash", rows=8)
    optimizer = torch.optim.SparseAdam(model.parameters())
    model(SEQUENCES).sum().backward()
    with pytest.raises(RuntimeError, match="consider Adam instead"):
        optimizer.step()


@pytest.mark.parametrize("kind", COMPUTED)
def test_weight_decay_draws_the_payload_to_the_base(kind: str) -> None:
    """Not the item vectors to zero, as it does with a table."""
    _, adapter = swapped(kind)
    adapter(torch.tensor([1]))
    with torch.no_grad():
        for tensor in adapter.parameters():
            tensor.copy_(torch.randn_like(tensor))
    assert adapter.base is not None
    away = (adapter.merge() - adapter.base).norm()
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        (0 * adapter(torch.arange(N))).sum().backward()
        optimizer.step()
    assert (adapter.merge() - adapter.base).norm() < 0.5 * away


def test_freezing_the_adapter_freezes_the_table() -> None:
    model, adapter = swapped()
    adapter.requires_grad_(False)
    before = adapter.merge()
    train(model, torch.optim.Adam(model.parameters(), lr=0.1))
    assert torch.equal(adapter.merge(), before)


# moving, casting, copying


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_cast_after_the_swap_trains(kind: str, dtype: torch.dtype) -> None:
    model, adapter = swapped(kind)
    expected = model(SEQUENCES)
    model.to(dtype)
    found = model(SEQUENCES)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
    before = adapter.merge()
    train(model, torch.optim.SGD(model.parameters(), lr=1.0))
    assert not torch.equal(adapter.merge(), before)
    again = copy.deepcopy(model)
    assert torch.equal(again(SEQUENCES), model(SEQUENCES))
    assert torch.equal(pickle.loads(pickle.dumps(model))(SEQUENCES), model(SEQUENCES))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_on_the_gpu_trains_as_on_the_cpu(kind: str) -> None:
    here, _ = swapped(kind)
    there = copy.deepcopy(here).cuda()
    sequences, targets = SEQUENCES.cuda(), TARGETS.cuda()
    train(here, torch.optim.SGD(here.parameters(), lr=0.5))
    optimizer = torch.optim.SGD(there.parameters(), lr=0.5)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(there(sequences), targets).backward()
        optimizer.step()
    torch.testing.assert_close(there(sequences).cpu(), here(SEQUENCES), atol=1e-4, rtol=1e-3)
    with torch.no_grad(), pytest.raises(InputError if kind != "full" else IndexError):
        there.items.weight[10**6] = 0


def test_a_functional_call_before_the_first_use_is_no_init_loop() -> None:
    model, adapter = swapped()
    other = {f"items.{name}": t + 0.1 for name, t in adapter.named_parameters()}
    functional_call(model, {n: t.detach() for n, t in other.items()}, (SEQUENCES,))
    xavier(model)
    with pytest.warns(PayloadWarning):
        model(SEQUENCES)


def test_an_optimiser_made_before_the_swap_holds_the_old_table() -> None:
    """So the guide says; there is nothing in torch to notice it by."""
    torch.manual_seed(0)
    model = Sequential()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    adapter = fedpeft.replace_embedding(model, "items", rank=2)
    before = adapter.merge()
    train(model, optimizer)
    assert torch.equal(adapter.merge(), before)


def test_an_adapter_from_build_says_what_it_belongs_to() -> None:
    base = torch.randn(9, 4)
    one, two = (build("lora", LoRAConfig(), ItemContext(base, seed)) for seed in (0, 1))
    assert one.mark == two.mark  # A and B both travel: nothing of LoRA is frozen but the base
    assert build("lora", LoRAConfig(), ItemContext(base + 1, 0)).mark != one.mark
