"""Run folders with invented numbers, shaped like the ones that a run writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

FINGERPRINT = "5a" * 32


def scores(hr: float, ndcg: float, full: float) -> dict[str, dict[str, float]]:
    return {
        "sampled": {"hr@10": hr, "ndcg@10": ndcg, "mrr": ndcg - 0.05},
        "full": {"hr@10": 2 * full, "ndcg@10": full, "mrr": full / 2},
    }


def result(**changes: Any) -> dict[str, Any]:
    """Return a valid ``result.json``, top-level keys replaced by `changes`."""
    parts = {"validation": scores(0.70, 0.42, 0.043), "test": scores(0.69, 0.41, 0.042)}
    baseline = {"validation": scores(0.46, 0.26, 0.02), "test": scores(0.45, 0.25, 0.02)}
    pooled = {"validation": scores(0.69, 0.415, 0.04), "test": scores(0.68, 0.409, 0.04)}
    values: dict[str, Any] = {
        "schema": 2,
        "name": "Full",
        "config": {"adapter": {"kind": "full"}, "backbone": {"kind": "fedmf", "dim": 32}},
        "seed": 0,
        "commit": "0123456789abcdef0123456789abcdef01234567-dirty",
        "made_by": "fedpeft 0.1.0",
        "split_fingerprint": FINGERPRINT,
        "dataset": {"name": "toy", "users": 600, "items": 3706, "interactions": 90_000},
        "rounds": 300,
        "seconds": 12.5,
        "backend": "fused",
        "metrics": parts,
        "baselines": {"popularity": baseline, "ials": pooled},
        "bytes": client_bytes(474_368.0, 474_368.0, 28_000_000.0),
        "items": {"reconstruction_error": 0.01, "latent_variance": 0.4},
    }
    return {**values, **changes}


def client_bytes(up: float, down: float, total: float) -> dict[str, float]:
    return {
        "upload_per_client_round": up,
        "download_per_client_round": down,
        "initial_download_per_client": 0.0,
        "warmup_per_client": 0.0,
        "resync_per_client": 0.0,
        "total_per_client_mean": total,
    }


def evaluation(round_: int, ndcg: float, sent: float, **changes: Any) -> dict[str, Any]:
    values = {
        "schema": 2,
        "round": round_,
        "phase": "adapt",
        "validation": scores(min(1.0, 1.6 * ndcg), ndcg, ndcg / 10),
        "train_loss": 0.5,
        "bytes_per_client": sent,
        "seconds": 0.1 * round_,
    }
    return {**values, **changes}


def traffic_round(round_: int, sent: float, **changes: Any) -> dict[str, Any]:
    values = {
        "schema": 2,
        "round": round_,
        "phase": "adapt",
        "clients": 60,
        "upload": sent,
        "download": sent,
        "initial_download": 0.0,
        "resync": 0.0,
        "bytes_per_client": 2.0 * sent * round_ / 600,
        "event": None,
    }
    return {**values, **changes}


def write_run(
    folder: Path,
    *,
    result: dict[str, Any],
    metrics: list[dict[str, Any]],
    traffic: list[dict[str, Any]],
) -> Path:
    """Write the three files of a run folder."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    for name, lines in (("metrics", metrics), ("traffic", traffic)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def simulated_run(
    folder: Path,
    name: str,
    payload: float,
    final: float,
    *,
    rounds: int = 300,
    merge: int = 0,
    **changes: Any,
) -> Path:
    """Write a run whose curve saturates at `final` and whose traffic adds up.

    Parameters
    ----------
    payload
        Bytes of one client, round and direction after 20 warm-up rounds at the full price.
    """
    full, clients, users = 474_368.0, 60, 600
    metrics, traffic, total = [], [], 0.0
    warm = 0 if name == "Full" else 20
    for round_ in range(1, rounds + 1):
        price = full if round_ <= warm else payload
        initial = 0.0 if name == "Full" else full * 60 * 0.9 ** (round_ - 1)
        event = "warmup_end" if round_ == warm else None
        if merge and round_ > warm and round_ % merge == 0:
            event = "refresh"
        resync = 0.4 * payload * clients if merge and round_ > warm + merge else 0.0
        total += (2 * price * clients + initial + resync) / users
        phase = "warmup" if round_ <= warm else "adapt"
        line = traffic_round(round_, price * clients, phase=phase, initial_download=initial)
        line |= {"resync": resync, "event": event, "bytes_per_client": total}
        traffic.append(line)
        if round_ % 10 == 0:
            ndcg = 0.1 + (final - 0.1) * (1 - math.exp(-round_ / 60))
            metrics.append(evaluation(round_, ndcg, total, phase=phase))
    adapter = name.lower().removeprefix("p-").split()[0]
    values = result(
        name=name,
        config={"adapter": {"kind": adapter}, "backbone": {"kind": "fedmf", "dim": 32}},
        rounds=rounds,
        bytes=client_bytes(payload, payload, total),
    )
    last = metrics[-1]["validation"]["sampled"]["ndcg@10"]
    values["metrics"] = {
        "validation": scores(0.7, last, 0.043),
        "test": scores(1.65 * last, last - 0.01, last / 10),
    }
    return write_run(folder, result={**values, **changes}, metrics=metrics, traffic=traffic)
