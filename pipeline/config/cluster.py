"""Where the parallel steps run: the section ``cluster`` of params.yaml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipeline.config.values import ParamsSection, shown


class ClusterParams(ParamsSection):
    """Where the parallel steps run; never a DVC parameter, as results stay the same within 1e-6."""

    kind: Literal["synchronous", "threads", "processes", "address", "slurm", "gpu"] = "threads"
    workers: Annotated[int, Field(ge=1)] = 2
    threads_per_worker: Annotated[int, Field(ge=1)] = 1
    memory: str | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None
    walltime: str = "01:00:00"
    queue: str | None = None
    account: str | None = None
    directives: list[str] = Field(default_factory=list)
    prologue: list[str] = Field(default_factory=list)
    interface: str | None = None
    dashboard: Annotated[int, Field(ge=0, lt=2**16)] = 0
    wait: Annotated[int, Field(ge=1)] = 3600

    @field_validator("memory")
    @classmethod
    def _amount(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)? ?[kMGT]i?B", value):
            raise ValueError(f"must be a number and a unit, such as 8GiB, not {shown(value)}")
        return value

    @field_validator("directives", "prologue", "walltime", "queue", "account", "interface")
    @classmethod
    def _single_lines(cls, value: Any) -> Any:
        for text in [value] if isinstance(value, str) else value or []:
            if not text.strip() or "\n" in text or "\r" in text:
                raise ValueError(
                    f"a job script takes lines that are neither empty nor broken, not {shown(text)}"
                )
        return value

    @property
    def distributed(self) -> bool:
        """Whether workers are those of a dask.distributed scheduler."""
        return self.kind in ("address", "slurm", "gpu")
