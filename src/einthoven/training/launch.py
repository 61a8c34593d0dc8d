"""What torchrun says about the processes that it has started. This module imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """What torchrun has written into the environment of this process.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0 on, and number of processes.
    local_rank : int
        Number of this process on its machine. It uses the GPU of this number.
    address, port : str and int
        Where the processes find each other.
    hosts_store : bool
        Whether this process answers at this address. Otherwise another process or torchrun does.
    restarts, most_restarts : int
        How often torchrun has started all processes again, and how often it does so at most.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    hosts_store: bool
    restarts: int
    most_restarts: int


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """Return how torchrun has started this process; None if this process trains alone, and is started once."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if any(name not in environment for name in names):
        return None
    most_restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS", 0))
    if int(environment["WORLD_SIZE"]) == 1 and not most_restarts:
        return None
    rank = int(environment["RANK"])
    return Launch(
        rank=rank,
        size=int(environment["WORLD_SIZE"]),
        local_rank=int(environment["LOCAL_RANK"]),
        address=environment["MASTER_ADDR"],
        port=int(environment["MASTER_PORT"]),
        hosts_store=rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        restarts=int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)),
        most_restarts=most_restarts,
    )
