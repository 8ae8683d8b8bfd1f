"""Graph expansion of FedPerGNN: neighbours without anybody's graph, as messages."""
