"""What is kept of a run: its result, what a client needs to score, what recommending needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedpeft import __version__, adapters
from fedpeft.data import Dataset
from fedpeft.data.describe import told
from fedpeft.evaluation import Holdout, Ranks, left_out_baselines, report_of
from fedpeft.experiment.assemble import Prepared
from fedpeft.experiment.baselines import cached_baselines
from fedpeft.experiment.config import RunConfig
from fedpeft.experiment.costs import run_costs
from fedpeft.experiment.folder import commit
from fedpeft.files import write_tensors
from fedpeft.records import CatalogueFile, HistoriesFile, Result
from fedpeft.records.base import check
from fedpeft.simulation import Simulation


def result_of(
    config: RunConfig,
    asked: RunConfig,
    prepared: Prepared,
    simulation: Simulation,
    ranks: Mapping[Holdout, Ranks],
    seconds: float,
) -> Result:
    """Gather everything a reader of the run needs."""
    split, dataset = prepared.split, prepared.dataset
    baselines, left_out = {}, None
    if config.evaluation.test:
        centralised = config.evaluation.centralised_baseline
        baselines = cached_baselines(
            split, centralised=centralised, recency=config.training.recency
        )
        left_out = left_out_baselines(split) if centralised else None
    values = {
        "name": config.label,
        "preset": config.preset,
        "asked": asked.to_dict(),
        "config": config.to_dict(),
        "seed": config.seed,
        "commit": commit(),
        "made_by": f"fedpeft {__version__}",
        "split_fingerprint": split.fingerprint,
        "dataset": {
            "name": dataset.name,
            "users": dataset.n_users,
            "items": dataset.n_items,
            "interactions": len(dataset.histories.items),
            "counts": dict(dataset.counts),
            "order": dataset.order,
            "notes": told(dataset)[1:],
        },
        # as they are in the end: a refresh makes new ones
        "items": {**prepared.items.report, **simulation.replica.backbone.item.describe()},
        "metrics": {part: report_of(found, split, part).to_dict() for part, found in ranks.items()},
        "baselines": baselines,
        "baselines_left_out": left_out,
        "cost": run_costs(asked, dataset),
        "bytes": simulation.bytes_summary(),
        "rejected_uploads": simulation.traffic.totals.rejected,
        "rounds": simulation.round,
        "seconds": seconds,
        "backend": simulation.backend,
    }
    return check(Result, values, "the result")


def data_files(dataset: Dataset) -> tuple[CatalogueFile, HistoriesFile]:
    """Return what recommending needs of a data set, so that it is not read again for that."""
    catalogue, histories = dataset.catalogue, dataset.histories
    return (
        CatalogueFile(catalogue.ids, catalogue.titles),
        HistoriesFile(dataset.user_ids, histories.indptr, histories.items, histories.weights),
    )


def write_adapter(simulation: Simulation, folder: Path) -> None:
    """Write what a client needs to score: adapter, base, and shared backbone tensors."""
    backbone = simulation.final_backbone()
    adapters.save(backbone.item, folder)
    if backbone.item.base is not None:
        write_tensors(folder / "base.safetensors", {"base": backbone.item.base})
    shared = {name: p.detach() for name, p in backbone.shared().items()}
    if shared:
        write_tensors(folder / "backbone.safetensors", shared)
