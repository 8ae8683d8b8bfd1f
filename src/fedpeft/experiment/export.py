"""What a run has learnt, for other programs: item vectors, and the scorer of one client."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.func import functional_call

from fedpeft.adapters import ItemContext, build
from fedpeft.adapters.full import FullConfig
from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.errors import RunError
from fedpeft.experiment.recommend import Recommender
from fedpeft.files import atomic_path, write_json, write_tensors
from fedpeft.tensors import Tensors

VECTORS, SCORER = "item_vectors", "scorer"
"""Names of the files, without their endings."""

_HISTORY = ("history_ids", "history_weight")
"""Buffers of a backbone that sees its client's history."""


class Scorer(nn.Module):
    """One client's scorer, for items outside its history; it holds nothing of any client.

    Parameters
    ----------
    backbone
        The one-client module, holding the payload as clients receive it; it stays as it is.

    Attributes
    ----------
    own
        Names of what a client brings: its local parameters and buffers and, where the backbone
        sees it, its history as int64 (L,) and the weight of each of its items, float32 (L,).
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        context = ItemContext(backbone.item.merge().cpu(), seed=0)
        self._scored = _Scored(copy.deepcopy(backbone).cpu())
        self._scored.backbone.item = build("full", FullConfig(), context)
        self._scored.requires_grad_(False)
        history = _HISTORY if isinstance(backbone, HistoryBackbone) else ()
        self.own = (*backbone.local, *backbone.kept, *history)

    def forward(self, own: Tensors, ids: Tensor) -> Tensor:
        """Return scores, float32 (m,), of items, int64 (m,)."""
        tensors = {f"backbone.{name}": tensor for name, tensor in own.items()}
        scores: Tensor = functional_call(self._scored, tensors, (ids,))
        return scores

    def example(self, rng: torch.Generator, length: int = 3) -> Tensors:
        """Return what a made-up client brings that has so many items."""
        found = {}
        for name in self.own:
            if name == "history_ids":
                items = self._scored.backbone.item.num_embeddings
                found[name] = torch.randint(items, (length,), generator=rng)
            elif name == "history_weight":
                found[name] = torch.rand(length, generator=rng)
            else:
                like = dict(self._scored.backbone.state_dict())[name]
                found[name] = torch.randn(like.shape, generator=rng)
        return found


class _Scored(nn.Module):
    """Gives the scores of items outside the history the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, ids: Tensor) -> Tensor:
        return self.backbone.score(self.backbone.item(ids))


def export(recommender: Recommender, folder: Path) -> list[Path]:
    """Write item vectors and the client's scorer; return the files.

    Where clients score with their own copy of the payload (`training.inference` "personalise"),
    there is no scorer that all share, and none is written.

    Raises
    ------
    RunError
        If the scorer, read again, scores otherwise than the model.
    """
    vectors = recommender.backbone.item.merge().cpu()
    npy = folder / f"{VECTORS}.npy"
    with atomic_path(npy) as temporary, temporary.open("wb") as file:
        np.save(file, vectors.numpy())
    tensors = folder / f"{VECTORS}.safetensors"
    write_tensors(tensors, {"vectors": vectors})
    recommender.catalogue.write(folder)
    written = [npy, tensors, folder / recommender.catalogue.FILE]
    if recommender.task.training.inference == "personalise":
        return written
    scorer = Scorer(recommender.backbone)
    program = folder / f"{SCORER}.pt2"
    with atomic_path(program) as temporary:
        temporary.write_bytes(_exported(scorer))
        _check(scorer, temporary)
    about = folder / f"{SCORER}.json"
    write_json(about, _about(scorer, recommender))
    return [*written, program, about]


def _exported(scorer: Scorer) -> bytes:
    """Return the scorer as a file of `torch.export`, for histories and lists of any length."""
    rng = torch.Generator().manual_seed(0)
    length = Dim("length")
    shapes = {name: {0: length} if name in _HISTORY else None for name in scorer.own}
    program = torch.export.export(
        scorer,
        (scorer.example(rng), torch.arange(5)),
        dynamic_shapes=(shapes, {0: Dim("items")}),
        strict=False,
    )
    file = io.BytesIO()  # a full disk is told by whoever writes the bytes
    torch.export.save(program, file)
    return file.getvalue()


def _check(scorer: Scorer, path: Path) -> None:
    """Raise `RunError` unless the file scores as the model does."""
    with path.open("rb") as file:
        program: ExportedProgram = torch.export.load(io.BytesIO(file.read()))
    items = scorer._scored.backbone.item.num_embeddings
    for seed, length in enumerate((2, 7)):
        rng = torch.Generator().manual_seed(seed)
        own, ids = scorer.example(rng, length), torch.randint(items, (4 * length,), generator=rng)
        if not torch.allclose(program.module()(own, ids), scorer(own, ids), atol=1e-5):
            raise RunError("the exported scorer does not score as the model does")


def _about(scorer: Scorer, recommender: Recommender) -> dict[str, object]:
    """Return what a program must know that calls the scorer."""
    example = scorer.example(torch.Generator())
    return {
        "schema": 1,
        "own": {
            name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
            if name not in _HISTORY
            else {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": ["length"]}
            for name, tensor in example.items()
        },
        "items": len(recommender.catalogue.ids),
        "backbone": recommender.config.backbone.kind,
        "recency": recommender.task.training.recency.model_dump(),
    }
