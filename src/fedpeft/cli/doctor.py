"""`fedpeft doctor`: versions, devices, extras, write access."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

from fedpeft import __version__
from fedpeft.cli.console import print_json, tell
from fedpeft.errors import RunError
from fedpeft.registry import Registry

CORE = ("torch", "numpy", "scipy", "scikit-learn", "polars", "safetensors", "pydantic", "altair")
EXTRAS = {
    "text": "sentence-transformers",
    "privacy": "dp-accounting",
    "deploy": "flwr",
    "tune": "optuna",
}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="doctor")(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the installation; exits with 3 when something is missing or broken."""
    found = examine()
    if as_json:
        print_json(found)
    else:
        for key, value in found.items():
            tell(f"{key:12} {_shown(value)}")
    if found["problems"]:
        raise RunError("; ".join(found["problems"]))


def examine() -> dict[str, Any]:
    """Return what there is, and the problems that would stop a run."""
    import torch

    from fedpeft.items import default_cache

    packages = {name: _version(name) for name in CORE}
    problems = [f"{name} is not installed" for name, found in packages.items() if found is None]
    cache = default_cache()
    problems += [
        f"{folder} cannot be written to" for folder in (cache, Path.cwd()) if not _writable(folder)
    ]
    problems += [fault for registry in registries() for fault in registry.faults()]
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "fedpeft": __version__,
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "devices": ["cpu", *cuda],
        "threads": torch.get_num_threads(),
        "packages": packages,
        "extras": {extra: _version(name) for extra, name in EXTRAS.items()},
        "cache": str(cache),
        "problems": problems,
    }


def registries() -> tuple[Registry[Any], ...]:
    """Return every registry that other packages may add parts to."""
    from fedpeft.adapters import adapters
    from fedpeft.backbones import backbones
    from fedpeft.data.readers import readers
    from fedpeft.items import encoders
    from fedpeft.losses import losses
    from fedpeft.transforms import transforms

    return adapters, backbones, losses, readers, encoders, transforms


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {found or 'not installed'}" for key, found in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)
