"""Which agents workers that are started here load: those of this folder as well. Starts none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet.exits import CommandError, Exit
from schemas.settings import WorkerSettings
from workers.agent import RegistrationError
from workers.registry import Registry


def loaded(more: Sequence[str] = ()) -> Registry:
    """What a worker would have registered: of FLEET_AGENTS, and of `more`. Raises CommandError."""
    settings = WorkerSettings()
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m workers` has it
        sys.path.insert(0, here)
    try:
        return Registry.load((*settings.agents, *more), settings.agent, rollout=settings.agent_rollout)
    except RegistrationError as error:
        raise CommandError(Exit.USAGE, str(error)) from None


def environ_of(more: Sequence[str]) -> dict[str, str]:
    """What tells a worker to load `more` as well. Raises CommandError where it could not."""
    if not more:
        return {}
    loaded(more)
    path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
    return {"FLEET_AGENTS": ",".join((*WorkerSettings().agents, *more)), "PYTHONPATH": path}
