"""The command line: thin verbs over the library."""

import os

from fedpeft.cli.leaving import leave

# Idle OpenMP threads that spin slow a run down many times over when other programs want the same
# cores; set before torch is imported, and left alone where the user has set it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> None:
    """Run the command line; it can be stopped from the first import on."""
    try:
        from fedpeft.cli.app import main as run

        run()
    except KeyboardInterrupt:
        leave("stopped", 130)


__all__ = ["main"]
