"""A federated loop that sends `state_dict()`, and what it sends instead once an adapter is in."""

import torch
from torch import nn

from fedpeft import load_payload_state_dict, payload_state_dict, replace_embedding

ITEMS, WIDTH, CLIENTS = 2000, 32, 4


def make_model(adapter: bool) -> nn.Module:
    """Return the same model on the server and on every client."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(ITEMS, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))
    if adapter:
        replace_embedding(model, "0", kind="lora", rank=4, seed=0)
    return model


def train(model: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(ITEMS, (64,), generator=rng)
    wanted = (ids % 2).float() * 2 - 1  # this crowd likes odd items
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(ids).squeeze(-1), wanted).backward()
        optimizer.step()


def federated(adapter: bool, send, load, rounds: int = 5) -> int:
    """Return the bytes of one upload."""
    server = make_model(adapter)
    for number in range(rounds):
        received = []
        for place in range(CLIENTS):
            client = make_model(adapter)
            load(client, send(server))
            train(client, seed=number * CLIENTS + place)
            received.append(send(client))
        load(server, {n: torch.stack([r[n] for r in received]).mean(0) for n in received[0]})
    return sum(tensor.numel() * tensor.element_size() for tensor in received[0].values())


plain = federated(False, nn.Module.state_dict, nn.Module.load_state_dict)
whole = federated(True, nn.Module.state_dict, nn.Module.load_state_dict)
short = federated(True, payload_state_dict, load_payload_state_dict)
print(f"without an adapter {plain:,} bytes per upload")
print(f"with one, state_dict {whole:,} bytes: the table below the adapter goes along")
print(f"with one, payload_state_dict {short:,} bytes")
