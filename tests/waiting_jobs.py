"""What waits, for tests of the policy: a name and what a batch is made by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    name: str = ""
    deadline: float | None = None
    abandoned: bool = False
    arrived: float = 0.0
