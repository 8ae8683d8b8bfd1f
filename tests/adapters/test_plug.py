"""Adapters in models we did not write: swap, save, load, merge, swap back."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fedpeft
from fedpeft.adapters import ItemContext, ItemEmbedding, build, load, save
from fedpeft.adapters.lora import LoRAConfig
from fedpeft.errors import ArtifactError, ConfigError, InputError

KINDS = {
    "full": {},
    "lora": {"rank": 3},
    "hash": {"rows": 16},
    "rq": {"levels": 2, "codes": 8},
}


class Recommender(nn.Module):
    """Averages a padded sequence of items and scores all items, as its author would write it."""

    def __init__(self, items: int = 40, width: int = 8) -> None:
        super().__init__()
        self.items = nn.Embedding(items, width, padding_idx=0)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, sequences: Tensor) -> Tensor:
        scores: Tensor = self.mix(self.items(sequences).mean(-2)) @ self.items.weight.T
        return scores


SEQUENCES = torch.tensor([[5, 7, 0, 0], [1, 2, 3, 39]])


@pytest.fixture
def model() -> Recommender:
    torch.manual_seed(0)
    return Recommender()


def train(model: nn.Module, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(SEQUENCES), torch.tensor([4, 6])).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_swap_changes_no_score_and_training_never_the_base(model: Recommender, kind: str) -> None:
    before, table = model(SEQUENCES), model.items.weight.detach().clone()
    adapter = fedpeft.replace_embedding(model, "items", kind=kind, **KINDS[kind])
    assert model.items is adapter
    assert torch.equal(model(SEQUENCES), before)
    names = {name for name, _ in model.named_parameters()}
    assert names == {f"items.{name}" for name in adapter.payload()} | {"mix.0.weight", "mix.0.bias"}
    train(model)
    assert not torch.equal(model(SEQUENCES), before)
    if adapter.base is not None:
        assert torch.equal(adapter.base, table)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_adapters_come_back_and_merge(model: Recommender, kind: str, tmp_path: Path) -> None:
    plain = copy.deepcopy(model)
    fedpeft.replace_embedding(model, "items", kind=kind, **KINDS[kind])
    train(model)
    fedpeft.save_pretrained(model, tmp_path)
    plain.mix.load_state_dict(model.mix.state_dict())
    assert fedpeft.from_pretrained(plain, tmp_path) is plain
    assert torch.equal(plain(SEQUENCES), model(SEQUENCES))
    assert fedpeft.merge_and_unload(plain) is plain
    assert type(plain.items) is nn.Embedding
    assert plain.items.padding_idx == 0
    torch.testing.assert_close(plain(SEQUENCES), model(SEQUENCES))
    before = plain.items.weight.detach().clone()
    train(plain)  # a plain model again, that trains as one
    assert not torch.equal(plain.items.weight, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_precision_of_the_model_is_kept(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(40, 8, dtype=dtype))
    model[0].weight.data = torch.randn(40, 8).to(dtype)  # float32 values
    plain = copy.deepcopy(model)
    adapter = fedpeft.replace_embedding(model, "0", kind=kind, **KINDS[kind])
    assert adapter.dtype == dtype
    assert torch.equal(model(SEQUENCES), plain(SEQUENCES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    fedpeft.save_pretrained(model, tmp_path)
    fedpeft.from_pretrained(plain, tmp_path)
    assert all(torch.equal(plain.state_dict()[n], t) for n, t in model.state_dict().items())
    assert plain.state_dict().keys() == model.state_dict().keys()
    expected = model(SEQUENCES)
    fedpeft.merge_and_unload(plain)
    assert plain[0].weight.dtype == dtype
    torch.testing.assert_close(plain(SEQUENCES), expected)


def test_a_rounded_base_is_another_base(tmp_path: Path) -> None:
    base = torch.randn(9, 4)
    save(build("lora", LoRAConfig(), ItemContext(base, 0)).half(), tmp_path)
    assert load(tmp_path, base).dtype == torch.float16  # rounded the same way again
    assert torch.equal(load(tmp_path, base.half()).merge(), load(tmp_path, base).merge())
    with pytest.raises(ArtifactError, match="another base"):
        load(tmp_path, base.bfloat16())


def test_payload_beyond_half_precision_is_refused() -> None:
    adapter = build("lora", LoRAConfig(), ItemContext(torch.randn(9, 4), 0)).half()
    payload = {name: tensor.float() for name, tensor in adapter.payload().items()}
    payload["B"][0, 0] = 1e6
    with pytest.raises(ArtifactError, match="infinity"):
        adapter.load_payload(payload)


def test_replaces_wherever_the_module_stands() -> None:
    shared = nn.Embedding(10, 4)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.ModuleList([shared, shared])})
    adapter = fedpeft.replace_embedding(model, "b.1", rank=2)
    assert model["a"][0] is model["b"][0] is model["b"][1] is adapter
    fedpeft.merge_and_unload(model)
    assert type(model["a"][0]) is nn.Embedding
    assert model["a"][0] is model["b"][0] is model["b"][1]


def test_several_embeddings_are_saved_by_name(tmp_path: Path) -> None:
    def fresh() -> nn.ModuleDict:
        torch.manual_seed(0)
        return nn.ModuleDict(
            {"main": nn.Embedding(9, 4), "side": nn.Sequential(nn.Embedding(5, 4))}
        )

    model, other = fresh(), fresh()
    fedpeft.replace_embedding(model, "main", rank=2)
    fedpeft.replace_embedding(model, "side.0", kind="hash", rows=4)
    fedpeft.save_pretrained(model, tmp_path)
    fedpeft.from_pretrained(other, tmp_path)
    assert str(other) == str(model)


def test_several_names_at_once() -> None:
    model = nn.ModuleDict({"users": nn.Embedding(9, 4), "goods": nn.Embedding(5, 4)})
    before = str(model)
    with pytest.raises(InputError, match="'shops' is missing"):
        fedpeft.replace_embedding(model, ["users", "shops"], rank=2)
    assert str(model) == before
    users, items = fedpeft.replace_embedding(model, ("users", "goods"), rank=2)
    assert model["users"] is users
    assert model["goods"] is items


def test_only_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    def fresh() -> nn.ModuleDict:
        torch.manual_seed(0)
        return nn.ModuleDict({"users": nn.Embedding(9, 4), "goods": nn.Embedding(5, 4)})

    for names in (["users", "goods"], ["goods"], ["users"]):
        model = fresh()
        for adapter in fedpeft.replace_embedding(model, names, rank=2):
            with torch.no_grad():
                adapter(torch.tensor(0))
                adapter.get_parameter("B").add_(len(names))
        (tmp_path / "users").mkdir(exist_ok=True)
        (tmp_path / "users" / "notes.txt").write_text("mine")
        fedpeft.save_pretrained(model, tmp_path)
        again = fedpeft.from_pretrained(fresh(), tmp_path)
        for name in ("users", "goods"):
            assert isinstance(again[name], ItemEmbedding) == (name in names)
            assert torch.equal(again[name].weight, model[name].weight)
        assert (tmp_path / "users" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "goods").exists()

    alone = nn.Embedding(9, 4)
    adapter = fedpeft.replace_embedding(alone, "", rank=2)
    fedpeft.save_pretrained(adapter, tmp_path)
    assert isinstance(fedpeft.from_pretrained(alone, tmp_path), ItemEmbedding)
    assert not (tmp_path / "users" / "adapter.json").exists()


@pytest.mark.parametrize("key", ["a/b", "/tmp/x", "50%", "ü ö", "..x".replace(".", "_")])
def test_names_of_any_kind_stay_in_the_folder(key: str, tmp_path: Path) -> None:
    model, plain = (nn.ModuleDict({key: nn.Embedding(9, 4)}) for _ in range(2))
    plain[key].load_state_dict(model[key].state_dict())
    fedpeft.replace_embedding(model, key, rank=2)
    fedpeft.save_pretrained(model, tmp_path / "out")
    assert [path.parent for path in (tmp_path / "out").iterdir()] == [tmp_path / "out"]
    fedpeft.from_pretrained(plain, tmp_path / "out")
    assert isinstance(plain[key], ItemEmbedding)


def test_folders_may_be_text(model: Recommender, tmp_path: Path) -> None:
    plain = copy.deepcopy(model)
    adapter = fedpeft.replace_embedding(model, "items", rank=2)
    fedpeft.save_pretrained(model, str(tmp_path))
    fedpeft.from_pretrained(plain, str(tmp_path))
    assert torch.equal(plain.items.weight, model.items.weight)
    save(adapter, f"{tmp_path}/one")
    assert adapter.base is not None
    assert torch.equal(load(f"{tmp_path}/one", adapter.base).merge(), adapter.merge())


def test_saved_adapters_meet_the_same_checks_as_new_ones(
    model: Recommender, tmp_path: Path
) -> None:
    plain = copy.deepcopy(model)
    fedpeft.replace_embedding(model, "items", rank=2)
    fedpeft.save_pretrained(model, tmp_path)
    plain.items.max_norm = 1.0
    with pytest.raises(InputError, match="max_norm"):
        fedpeft.from_pretrained(plain, tmp_path)
    plain.items.max_norm, plain.items.padding_idx = None, None
    with pytest.raises(ArtifactError, match=r"made for padding_idx = 0; .* has None"):
        fedpeft.from_pretrained(plain, tmp_path)


def test_trainable_parameters_are_told(
    model: Recommender, capsys: pytest.CaptureFixture[str]
) -> None:
    fedpeft.replace_embedding(model, "items", rank=2)
    model.mix.requires_grad_(False)
    found = fedpeft.print_trainable_parameters(model)
    assert found == (2 * (40 + 8), 2 * (40 + 8) + 40 * 8 + 8 * 8 + 8)
    said = capsys.readouterr().out
    assert said == "trainable params: 96 || all params: 488 || trainable%: 19.6721\n"


def test_an_embedding_alone(tmp_path: Path) -> None:
    table = nn.Embedding(9, 4)
    adapter = fedpeft.replace_embedding(table, "", rank=2)
    fedpeft.save_pretrained(adapter, tmp_path)
    again = fedpeft.from_pretrained(table, tmp_path)
    assert isinstance(again, ItemEmbedding)
    merged = fedpeft.merge_and_unload(again)
    assert type(merged) is nn.Embedding
    assert torch.equal(merged.weight, table.weight)


def test_training_flag_and_device_follow(model: Recommender) -> None:
    model.eval()
    assert not fedpeft.replace_embedding(model, "items", rank=2).training
    fedpeft.merge_and_unload(model)
    assert not model.items.training


def tied(model: Recommender) -> None:
    model.out = nn.Linear(8, 40, bias=False)
    model.out.weight = model.items.weight


def bag(model: Recommender) -> None:
    model.items = nn.EmbeddingBag(40, 8)


class Normed(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.normalize(super().forward(ids), dim=-1)


SPOILERS: dict[str, Callable[[Recommender], object]] = {
    r"tied to out\.weight; .*functional\.linear\(x, items\.weight\)": tied,
    r"pool what it returns, such as embedding\(ids\)\.mean": bag,
    "set it to None, and shorten the vectors": lambda model: setattr(model.items, "max_norm", 1.0),
    "NaN": lambda model: model.items.weight.data[3].fill_(torch.nan),
    "padding vector is not zero .* set row 0 of the table to zero first": lambda model: (
        model.items.weight.data[0].fill_(1)
    ),
    "its own forward": lambda model: setattr(model, "items", Normed(40, 8)),
    "is missing": lambda model: delattr(model, "items"),
    "is of class Linear": lambda model: setattr(model, "items", nn.Linear(8, 40)),
    "is an adapter already": lambda model: fedpeft.replace_embedding(model, "items"),
    "has hooks": lambda model: model.items.register_forward_hook(lambda *_: None),
    "remove_parametrizations": lambda model: parametrizations.weight_norm(model.items),
    "not of floating-point": lambda model: setattr(
        model, "items", nn.Embedding(40, 8, dtype=torch.complex64)
    ),
}


@pytest.mark.parametrize("reason", SPOILERS)
def test_what_cannot_be_replaced_is_refused(model: Recommender, reason: str) -> None:
    SPOILERS[reason](model)
    before = str(model)
    with pytest.raises(InputError, match=reason):
        fedpeft.replace_embedding(model, "items", rank=2)
    assert str(model) == before


def test_wrong_settings_are_refused(model: Recommender) -> None:
    with pytest.raises(ConfigError, match="unknown adapter 'none'"):
        fedpeft.replace_embedding(model, "items", kind="none")
    with pytest.raises(ConfigError, match=r"lora\.rank"):
        fedpeft.replace_embedding(model, "items", rank=0)
    with pytest.raises(InputError, match="padding_idx = 9"):
        build("lora", LoRAConfig(), ItemContext(torch.zeros(9, 4), 0, padding_idx=9))


def test_nothing_to_save_or_merge(model: Recommender, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no adapter"):
        fedpeft.save_pretrained(model, tmp_path)
    with pytest.raises(InputError, match="no adapter"):
        fedpeft.merge_and_unload(model)
    with pytest.raises(ArtifactError, match="no saved adapter"):
        fedpeft.from_pretrained(model, tmp_path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_table_is_not_merged(model: Recommender, value: float) -> None:
    adapter = fedpeft.replace_embedding(model, "items", rank=2)
    model(SEQUENCES)
    with torch.no_grad():
        next(adapter.parameters())[3, 0] = value
        adapter.get_parameter("B").fill_(1)
    with pytest.raises(InputError, match="NaN or infinity"):
        fedpeft.merge_and_unload(model)
    assert model.items is adapter


def test_artifact_of_another_table_leaves_the_model_alone(
    model: Recommender, tmp_path: Path
) -> None:
    other = copy.deepcopy(model)
    fedpeft.replace_embedding(model, "items", rank=2)
    fedpeft.save_pretrained(model, tmp_path)
    with torch.no_grad():
        other.items.weight[5] += 1
    with pytest.raises(ArtifactError, match="another base"):
        fedpeft.from_pretrained(other, tmp_path)
    assert type(other.items) is nn.Embedding
    shutil.move(tmp_path / "items", tmp_path / "goods")
    with pytest.raises(InputError, match="'goods' is missing"):
        fedpeft.from_pretrained(other, tmp_path)


def test_payload_is_all_that_two_clients_need_to_share(model: Recommender) -> None:
    """The sum of what a federated loop does by hand: send, train, send back, average."""
    adapter = fedpeft.replace_embedding(model, "items", rank=2)
    clients = [copy.deepcopy(model) for _ in range(2)]
    for client, steps in zip(clients, (1, 4), strict=True):
        train(client, steps)
    payloads = [client.items.payload() for client in clients]
    mean = {name: (payloads[0][name] + payloads[1][name]) / 2 for name in payloads[0]}
    adapter.load_payload(mean)
    for name, tensor in adapter.named_parameters():
        assert torch.equal(tensor, mean[name])
    for one, other in itertools.pairwise(clients):
        assert torch.equal(one.items.base, other.items.base)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_model_trains_as_the_plain_one(model: Recommender) -> None:
    """The default backend, on a whole model, with a tied output layer and padding."""
    torch.compiler.reset()
    fedpeft.replace_embedding(model, "items", rank=2)
    eager = copy.deepcopy(model)
    train(torch.compile(model, fullgraph=True))
    train(eager)
    for one, other in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
