"""What each strategy costs: bytes, memory, operations, milliseconds, and what it can express.

Sizes are asked of the code that runs, on tensors that have shapes and no memory; so a catalogue of
ten million items costs nothing to ask about.
"""

from fedpeft.cost.assemble import Cost, Measurement, as_json, costs
from fedpeft.cost.communication import AS_SET
from fedpeft.cost.strategy import Scale, Strategy

__all__ = ["AS_SET", "Cost", "Measurement", "Scale", "Strategy", "as_json", "costs"]
