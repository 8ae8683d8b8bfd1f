"""What a run recommends: to its users, and to people who never took part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import polars as pl
import torch

from fedpeft.client import join
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.ragged import row_of, take
from fedpeft.errors import ConfigError
from fedpeft.experiment.assemble import Stage, task_of
from fedpeft.experiment.outcome import data_files
from fedpeft.experiment.reopen import index_of, reopen, with_checkpoint
from fedpeft.experiment.run import accept_model
from fedpeft.memory import at_once
from fedpeft.records import CatalogueFile, HistoriesFile
from fedpeft.server import Server
from fedpeft.simulation import RunOptions
from fedpeft.simulation.checkpoint import read, restore
from fedpeft.simulation.inference import Inference, inference
from fedpeft.simulation.population import Population
from fedpeft.training.task import payload_parameters


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    rank: int
    item: str
    title: str
    score: float


class Recommender:
    """Recommends what a run, finished or interrupted, has learnt.

    It needs the run folder alone: the checkpoint, the catalogue, and what each user has.  Folders
    of earlier versions do not have the last two; then the data set is read again.

    Parameters
    ----------
    path
        Run folder.
    stage
        Told what is worth knowing, in a few words.

    Attributes
    ----------
    backbone
        The one-client module, holding the payload as clients receive it.
    catalogue, histories
        All items; all users with what they have.

    Raises
    ------
    ArtifactError
        If `path` is no run folder, has no checkpoint, or a file of it is damaged.
    """

    def __init__(
        self, path: Path | str, device: str = "auto", stage: Stage = lambda _: None
    ) -> None:
        self.path, self._stage = Path(path), stage
        folder = with_checkpoint(path)
        self.config = folder.config()
        self.catalogue, self.histories = self._data(device)
        self._device = RunOptions(device=device).torch_device()
        self.task = task_of(self.config, len(self.catalogue.ids), self.config.items.dim)
        saved = read(
            folder.checkpoint, self.task, self._device, lambda extra: accept_model(folder, extra)
        )
        self.round = saved.server.round
        self.backbone = self.task.make_backbone(saved.server.item).to(self._device)
        payload = Server(self.task, device=self._device).final(saved.server)
        for name, parameter in payload_parameters(self.backbone).items():
            parameter.data = payload[name]
        self._population = Population(
            Histories(self.histories.indptr, self.histories.items, self.histories.weights),
            self.backbone,
            seed=self.task.seed,
            device=self._device,
        )
        restore(self._population, saved.clients, folder.checkpoint)

    def _data(self, device: str) -> tuple[CatalogueFile, HistoriesFile]:
        if not (self.path / HistoriesFile.FILE).exists():
            prepared, _ = reopen(self.path, device, self._stage)
            return data_files(prepared.dataset)
        catalogue = CatalogueFile.read(self.path)
        return catalogue, HistoriesFile.read(self.path, len(catalogue.ids))

    def for_user(self, user: str, top: int) -> list[Recommendation]:
        """Return the `top` items for a user of the run, without those of the user's history.

        Raises
        ------
        ConfigError
            If there is no such user, or `top` is not positive.
        """
        try:
            row = index_of(self.histories.users, user, self.path)
        except ConfigError as error:
            way = f"fedpeft recommend {quote(str(self.path))} --history ID,ID"
            raise ConfigError(f"{error}; for someone who took no part: {way}") from None
        return self._listed(self._best(self._inference(), self._population.train, [row], top))

    def for_history(self, items: Sequence[str], top: int) -> list[Recommendation]:
        """Return the `top` items for someone who took no part, without those of the history.

        The private part of the model is trained on the history, as the person's own device would.

        Parameters
        ----------
        items
            Ids, oldest first; of an item that is there again the first place counts.  Those that
            the catalogue does not have are left out, and `stage` is told.

        Raises
        ------
        ConfigError
            If no item is known, none is left to recommend, or `top` is not positive.
        """
        history = self._rows(items)
        client = len(self._population)  # the number after the last one
        state = join(self.task, self.backbone, history, client, self.round)
        local = {name: tensor.unsqueeze(0) for name, tensor in state.local.items()}
        alone = Histories(np.array([0, len(history)], np.int64), history)
        ids = np.array([client], np.int64)
        scores = inference(self.task, self.backbone, local, alone, ids, self.round)
        return self._listed(self._best(scores, alone, [0], top))

    def for_all(self, top: int) -> pl.DataFrame:
        """Return the `top` items of every user: `user`, `rank`, `item`, `title` and `score`.

        Raises
        ------
        ConfigError
            If `top` is not positive.
        """
        users = np.arange(len(self._population))
        found = self._best(self._inference(), self._population.train, users, top)
        return found.select(
            pl.Series("user", self.histories.users, dtype=pl.String).gather(found["row"]), "rank",
            *self._named(found), "score",
        )  # fmt: skip

    def _inference(self) -> Inference:
        clients = self._population
        return inference(
            self.task, self.backbone, clients.local, clients.train, clients.ids, self.round
        )

    def _rows(self, items: Sequence[str]) -> Ints:
        """Return the catalogue's rows of a history, int64 (L,)."""
        place = {item: row for row, item in enumerate(self.catalogue.ids)}
        asked = list(dict.fromkeys(items))
        rows = [place[item] for item in asked if item in place]
        if not rows:
            raise ConfigError(
                f"no item of the history is in the catalogue of {self.path}; "
                f"{self.path / CatalogueFile.FILE} has all ids"
            )
        if len(rows) == len(place):
            raise ConfigError("the history has every item, so none is left to recommend")
        if len(rows) < len(asked):
            unknown = [item for item in asked if item not in place]
            shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            self._stage(
                f"{len(unknown)} of {len(asked)} items of the history are not in the catalogue and "
                f"are left out: {shown}"
            )
        return np.array(rows, np.int64)

    def _best(
        self, scores: Inference, histories: Histories, rows: Sequence[int] | Ints, top: int
    ) -> pl.DataFrame:
        """Return the best items of users, best first: `row`, `rank`, `index` and `score`."""
        if top < 1:
            raise ConfigError(f"--top must be at least 1, got {top}")
        tables = []
        for users in torch.as_tensor(rows).split(at_once(self.task.n_items, self._device)):
            found = scores(users).clone()
            seen = take(histories, users.numpy())
            found[torch.from_numpy(row_of(seen.lengths())), torch.from_numpy(seen.items)] = -np.inf
            best = torch.topk(found, min(top, self.task.n_items))
            table = pl.DataFrame(
                {
                    "row": users.repeat_interleave(best.indices.shape[1]).numpy(),
                    "rank": np.tile(np.arange(1, best.indices.shape[1] + 1), len(users)),
                    "index": best.indices.flatten().cpu().numpy(),
                    "score": best.values.flatten().cpu().numpy(),
                }
            )
            tables.append(table.filter(pl.col("score").is_finite()))
        return pl.concat(tables)

    def _named(self, found: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """Return ids and titles of the items found."""
        ids, titles = self.catalogue.ids, self.catalogue.titles
        return (
            pl.Series("item", ids, dtype=pl.String).gather(found["index"]),
            pl.Series("title", titles, dtype=pl.String).gather(found["index"]),
        )

    def _listed(self, found: pl.DataFrame) -> list[Recommendation]:
        ids, titles = self.catalogue.ids, self.catalogue.titles
        return [
            Recommendation(rank, ids[item], titles[item], score)
            for rank, item, score in found.select("rank", "index", "score").iter_rows()
        ]
