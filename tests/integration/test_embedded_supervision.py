"""Parts as child processes: they come up, are started again, drain, and never outlive their supervisor. Stub parts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet import leftovers
from fleet.keeper import Keeper
from fleet.leftovers import MARK
from fleet.part import CannotStart, Part, PartFailed, Run
from fleet.up import end_leftovers

Said = list[str]


def script(body: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(body))


def part(folder: Path, body: str, **more: object) -> Part:
    """A part that is ready once it has made the file `ready`."""

    async def ready() -> bool:
        return (folder / "ready").exists()

    given: dict[str, object] = {"name": "stub", "command": script(body), "log": folder / "stub.log", "ready": ready}
    return Part(**{**given, "start_timeout_s": 10.0, "stop_timeout_s": 2.0, **more})  # type: ignore[arg-type]


READY = "import os, pathlib, signal, sys, time\npathlib.Path('{folder}/ready').write_text(str(os.getpid()))\n"


def forever(folder: Path, before: str = "") -> str:
    return READY.format(folder=folder) + before + "\ntime.sleep(600)\n"


@asynccontextmanager
async def kept(one: Part, folder: Path) -> AsyncIterator[tuple[Keeper, Said]]:
    said: Said = []
    environ = {**os.environ, MARK: str(folder.resolve())}
    keeper = Keeper(one, environ=environ, say=said.append, changed=lambda: None)
    try:
        yield keeper, said
    finally:
        await keeper.stop()
        await until(lambda: not list(leftovers.marked(folder)))  # killed with it, and waited for by nobody


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it never came"
        await asyncio.sleep(0.02)


async def test_a_part_is_ready_when_it_says_so_and_gone_after_stop(tmp_path: Path) -> None:
    async with kept(part(tmp_path, forever(tmp_path)), tmp_path) as (keeper, said):
        await keeper.start()
        assert keeper.run is not None
        assert list(leftovers.marked(tmp_path)) == [keeper.run.pid]
    assert keeper.run.ended
    assert said == []


async def test_a_part_that_ends_is_started_again_and_prepared_again(tmp_path: Path) -> None:
    prepared: list[int] = []

    async def prepare() -> None:
        prepared.append(1)

    async with kept(part(tmp_path, forever(tmp_path), prepare=prepare), tmp_path) as (keeper, said):
        await keeper.start()
        assert keeper.run is not None
        first = keeper.run.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: keeper.run is not None and keeper.run.pid != first and len(prepared) == 2)
        await until(lambda: len(said) == 2)
        assert "ended by SIGKILL; starting it again" in said[0]
        assert "is back" in said[1]


async def test_a_restarted_part_that_is_slow_is_left_alone_and_others_are_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    slow = False

    async def bereaved() -> None:
        told.append(1)

    async def ready() -> bool:
        return not slow

    monkeypatch.setattr("fleet.keeper.STUCK_S", 0.3)
    async with kept(part(tmp_path, forever(tmp_path), bereaved=bereaved, ready=ready), tmp_path) as (keeper, _):
        await keeper.start()
        assert keeper.run is not None
        first, slow = keeper.run.pid, True
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(told) >= 3)
        assert keeper.restarts == 1
        assert not keeper.run.ended


async def test_others_that_could_not_be_told_are_told_soon_again(tmp_path: Path) -> None:
    told: list[int] = []
    slow = False

    async def bereaved() -> None:
        told.append(1)
        if len(told) < 3:
            raise ConnectionError("nobody answers")

    async def ready() -> bool:
        return not slow or len(told) >= 3

    async with kept(part(tmp_path, forever(tmp_path), bereaved=bereaved, ready=ready), tmp_path) as (keeper, said):
        await keeper.start()
        assert keeper.run is not None
        first, slow = keeper.run.pid, True
        os.kill(first, signal.SIGKILL)
        await until(lambda: any("is back" in sentence for sentence in said))
        assert [sentence for sentence in said if "nobody answers" in sentence] == [
            "the stub is gone and others could not be told: nobody answers"
        ] * 2


async def test_a_part_that_ends_before_it_is_ready_says_why_with_its_last_lines(tmp_path: Path) -> None:
    body = "print('libcurl.so.4: cannot open shared object file'); raise SystemExit(7)"
    broken = part(tmp_path, body, hints=(("libcurl", "apt-get install libcurl4"),))
    async with kept(broken, tmp_path) as (keeper, _):
        with pytest.raises(PartFailed) as caught:
            await keeper.start()
    assert caught.value.text == "the stub ended with exit code 7 before it was ready"
    assert caught.value.advice == "apt-get install libcurl4"
    assert caught.value.tail == ["libcurl.so.4: cannot open shared object file"]


async def test_a_part_that_never_gets_ready_is_given_up_in_time(tmp_path: Path) -> None:
    async with kept(part(tmp_path, "import time; time.sleep(600)", start_timeout_s=0.5), tmp_path) as (keeper, _):
        with pytest.raises(PartFailed, match=r"was not ready within 0\.5 s"):
            await keeper.start()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    async with kept(part(tmp_path, "", command=(str(tmp_path / "none"),)), tmp_path) as (keeper, _):
        with pytest.raises(PartFailed) as caught:
            await keeper.start()
    assert any("none" in line for line in caught.value.tail)


async def test_what_cannot_be_prepared_cannot_start(tmp_path: Path) -> None:
    def prepared_by(work: Callable[[], Awaitable[None]]) -> Part:
        return part(tmp_path, forever(tmp_path), prepare=work)

    async def odd() -> None:
        raise ValueError("odd answer")

    async def refused() -> None:
        raise CannotStart("the topics differ", "look at them")

    async with kept(prepared_by(odd), tmp_path) as (keeper, _):
        with pytest.raises(PartFailed, match="could not be prepared: odd answer"):
            await keeper.start()
    async with kept(prepared_by(refused), tmp_path) as (keeper, _):
        with pytest.raises(CannotStart, match="the topics differ"):
            await keeper.start()


async def test_a_part_that_ignores_sigterm_is_killed_after_its_bound_with_what_it_started(tmp_path: Path) -> None:
    stubborn = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        import subprocess
        subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
    """
    body = forever(tmp_path, textwrap.dedent(stubborn))
    async with kept(part(tmp_path, body, stop_timeout_s=0.3), tmp_path) as (keeper, _):
        await keeper.start()
        await until(lambda: len(list(leftovers.marked(tmp_path))) == 2)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 3


async def test_ctrl_c_at_the_terminal_does_not_reach_a_part(tmp_path: Path) -> None:
    async with kept(part(tmp_path, forever(tmp_path)), tmp_path) as (keeper, _):
        await keeper.start()
        assert keeper.run is not None
        assert os.getsid(keeper.run.pid) == keeper.run.pid != os.getsid(0)


SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from fleet.leftovers import MARK
from fleet.part import Part, Run
async def ready():
    return True
async def main():
    folder = Path({folder!r})
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    environ = {{**os.environ, MARK: {mark!r}}}
    for number in range(2):
        command = (sys.executable, "-c", child + "time.sleep(600)")
        await Run.start(Part(name="x", command=command, log=folder / "x.log", ready=ready), environ)
    print("started", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_parts_die_with_a_supervisor_that_is_killed_and_the_next_one_ends_what_they_had_started(
    tmp_path: Path,
) -> None:
    root = str(Path(__file__).resolve().parents[2])
    source = SUPERVISOR.format(root=root, folder=str(tmp_path), mark=str(tmp_path.resolve()))
    supervisor = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    try:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        await until(lambda: len(list(leftovers.marked(tmp_path))) == 4)
        supervisor.kill()
        await until(lambda: len(list(leftovers.marked(tmp_path))) == 2, timeout_s=3)
    finally:
        supervisor.kill()
        supervisor.communicate()
        await end_leftovers(tmp_path, grace_s=0.5)
    assert list(leftovers.marked(tmp_path)) == []


async def test_a_child_whose_supervisor_is_gone_already_does_not_start(tmp_path: Path) -> None:
    child = Path(__file__).resolve().parents[2] / "fleet" / "child.py"
    touched = tmp_path / "ran"
    command = [sys.executable, str(child), "1", "9", "touch", str(touched)]
    assert subprocess.run(command, capture_output=True).returncode != 0
    assert not touched.exists()


async def test_the_log_of_a_restarted_part_is_continued(tmp_path: Path) -> None:
    one = part(tmp_path, "print('line')")
    for _ in range(2):
        run = await Run.start(one, os.environ)
        await run.until_ended()
    assert one.log.read_text() == "line\nline\n"
