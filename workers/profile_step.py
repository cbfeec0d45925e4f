"""The user's profile at a turn's start: read once, then pinned, so that every attempt sees the same. Knows no agent.

What was read is a step of kind `profile`, the first of its turn; there is none where there is no profile.
"""

from __future__ import annotations

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from journal.port import Profiles, StoreUnavailable
from schemas.profile import Pinned, Profile
from workers.progress import Progress

KIND = "profile"
_WAIT = wait_random_exponential(multiplier=0.1, max=2.0)


async def pin_profile(progress: Progress, profiles: Profiles | None) -> None:
    """Set the job's profile: from the journal where an earlier attempt left anything there, else as it is now. Waits
    for a store that does not answer as long as the turn lasts. Raises TurnLost, TerminalError."""
    job = progress.job
    turn, held = job.turn, progress.job.turn.steps
    if held or turn.intents or turn.asked:
        first = next((step for step in held if step.kind == KIND and not step.run), None)
        if first is not None:
            progress.take(KIND, KIND, "")
            progress.replayed(first.step)
            job.profile = Pinned.model_validate(first.result)
    elif profiles is not None:
        profile = await _load(profiles, job.info.tenant, job.info.user)
        if profile is not None and not profile.blank:
            await progress.do(_keep(progress, profile.pinned))
            job.profile = profile.pinned


async def _keep(progress: Progress, pinned: Pinned) -> None:
    number, _ = progress.take(KIND, KIND, "")
    result = progress.fitting(pinned.model_dump(), "the user's profile")
    await progress.append(progress.entry(number, KIND, KIND, "", result=result))


async def _load(profiles: Profiles, tenant: str, user: str) -> Profile | None:
    async for attempt in AsyncRetrying(retry=retry_if_exception_type(StoreUnavailable), wait=_WAIT):
        with attempt:
            return await profiles.load(tenant, user)
    raise AssertionError("tried until it is answered")
