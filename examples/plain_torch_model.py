"""A torch model and a federated loop written without any thought of fedpeft, then three lines."""

import copy

import torch
from torch import nn

from fedpeft import merge_and_unload, replace_embedding  # line 1

ITEMS, USERS, GROUPS, WIDTH = 600, 80, 4, 32  # users like the items of their own group


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Parameter(torch.zeros(WIDTH))  # stays on the client
        self.items = nn.Embedding(ITEMS, WIDTH)
        self.score = nn.Linear(WIDTH, 1)
        nn.init.normal_(self.items.weight, std=0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.score(self.items(ids) * self.user).squeeze(-1)


def federated_averaging(model: nn.Module, rounds: int = 60) -> tuple[int, float]:
    """Return the bytes of one upload, and how often a held-out liked item beats any other."""
    torch.manual_seed(1)
    users = torch.randn(USERS, WIDTH) * 0.1
    liked = [torch.randperm(ITEMS // GROUPS)[:60] * GROUPS + u % GROUPS for u in range(USERS)]
    for _ in range(rounds):
        received = []
        for user in torch.randperm(USERS)[:16].tolist():
            client = copy.deepcopy(model)
            client.user.data = users[user].clone()
            optimizer = torch.optim.Adam(client.parameters(), lr=0.05)
            for _ in range(4):
                margin = client(liked[user][:50]) - client(torch.randint(ITEMS, (50,)))
                optimizer.zero_grad()
                nn.functional.softplus(-margin).mean().backward()
                optimizer.step()
            users[user] = client.user.detach()
            received.append({n: p.detach() for n, p in client.named_parameters() if n != "user"})
        for name in received[0]:
            model.get_parameter(name).data = torch.stack([sent[name] for sent in received]).mean(0)
    right = 0.0
    for user in range(USERS):
        model.user.data = users[user]
        right += (model(liked[user][50:]) > model(torch.randint(ITEMS, (500, 1)))).float().mean()
    return sum(4 * tensor.numel() for tensor in received[0].values()), float(right / USERS)


torch.manual_seed(0)
model = Recommender()
full, accuracy = federated_averaging(copy.deepcopy(model))
print(f"full table: {full:,} bytes per upload, {accuracy:.1%} of pairs ranked right")
replace_embedding(model, "items", kind="lora", rank=4)  # line 2
small, accuracy = federated_averaging(model)
print(f"LoRA r=4: {small:,} bytes per upload, {accuracy:.1%} of pairs ranked right")
print(merge_and_unload(model), f"saves {1 - small / full:.1%} of all bytes")  # line 3
