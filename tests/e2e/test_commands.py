"""The operator's commands in a second terminal, against the running stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import AbstractContextManager

import pytest

from tests.e2e.fleet_process import FleetUp, bare_environment
from tests.support.terminal import Terminal, chat_at_terminal


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


def test_topics_are_those_of_the_file(stack: FleetUp) -> None:
    checked = stack.command("topics", "check", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["drift"]) == (0, []), checked.stderr
    applied = stack.command("topics", "apply")
    assert applied.returncode == 0
    assert "nothing to do" in applied.stdout


def test_a_session_is_shown_from_the_journal_and_deleted_by_its_owner(stack: FleetUp, session: str) -> None:
    assert stack.command("send", session, "keep this", "--wait", "--user", "ann").returncode == 0
    shown = stack.command("session", "show", session, "--json")
    found = json.loads(shown.stdout)
    assert (found["user"], found["agent"], found["state"], found["turns"]) == ("ann", "echo", "idle", 1)
    assert [item["role"] for item in found["history"]] == ["user", "assistant"]
    assert "user> keep this" in stack.command("session", "show", session).stdout
    deleted = stack.command("session", "delete", session, "--json")
    assert (deleted.returncode, json.loads(deleted.stdout)["state"]) == (0, "applied"), deleted.stderr
    again = stack.command("session", "show", session)
    assert (again.returncode, "was deleted" in again.stderr) == (1, True)
    assert stack.command("session", "delete", session).returncode == 1


def test_a_session_that_never_was_has_exit_code_1(stack: FleetUp, session: str) -> None:
    shown = stack.command("session", "show", session)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"there is no session {session}" in shown.stderr


def test_agents_lists_what_is_built_in(stack: FleetUp) -> None:
    rows = {row["name"]: row for row in json.loads(stack.command("agents", "--json").stdout)}
    assert {"echo", "chat"} <= set(rows)
    assert rows["chat"]["default"]
    assert "echo" in stack.command("agents").stdout


def test_send_without_wait_says_where_the_record_lies(stack: FleetUp, session: str) -> None:
    sent = stack.command("send", session, "hi", "--json")
    assert {"session", "turn", "partition", "offset"} <= set(json.loads(sent.stdout))


def test_send_to_an_unknown_agent_fails_with_its_code(stack: FleetUp, session: str) -> None:
    sent = stack.command("send", session, "hi", "--agent", "nobody", "--wait", "--json")
    assert (sent.returncode, json.loads(sent.stdout)["code"]) == (1, "agent_unknown"), sent.stderr


def test_where_nothing_runs_every_command_says_so_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = FleetUp(tmp_path_factory.mktemp("none") / "data")
    for command in (("send", "s", "hi"), ("topics", "check"), ("session", "show", "s")):
        answer = nowhere.command(*command)
        assert answer.returncode == 3, answer.stderr
        assert "fleet up" in answer.stderr
        assert len(answer.stderr.strip().splitlines()) == 1


def test_an_unknown_setting_is_warned_about(stack: FleetUp) -> None:
    environ = {**bare_environment(data=str(stack.data)), "FLEET_GATEWAI_PORT": "1"}
    answer = subprocess.run(
        [sys.executable, "-m", "fleet", "agents"], env=environ, capture_output=True, text=True, timeout=30
    )
    assert "FLEET_GATEWAI_PORT is not a setting; did you mean FLEET_GATEWAY_PORT?" in answer.stderr


def terminal(stack: FleetUp, *arguments: str) -> AbstractContextManager[Terminal]:
    return chat_at_terminal(bare_environment(data=str(stack.data)), *arguments)


def test_chat_at_a_terminal_answers_and_leaves_at_ctrl_d(stack: FleetUp, session: str) -> None:
    with terminal(stack, "--session", session) as screen:
        screen.until("you>")
        screen.type("hello there\r")
        screen.until(r"hello there[\s\S]*hello there")
        screen.until("you>")
        screen.type("\x04")
        screen.until(f"--session {session}")
        assert screen.process.wait(timeout=10) == 0


def test_ctrl_c_cancels_the_running_turn_and_the_chat_goes_on(stack: FleetUp, session: str) -> None:
    slow = json.dumps({"tokens": 4000, "rate": 20, "first_ms": 0})
    with terminal(stack, "--session", session, "--agent", "chat") as screen:
        screen.until("you>")
        screen.type(f"{slow}\r")
        screen.until(r"t0 t1 ")
        os.kill(screen.process.pid, signal.SIGINT)
        screen.until("cancelled by user")
        screen.until("you>")
        screen.type(json.dumps({"tokens": 2, "rate": 0, "start": 500}) + "\r")
        screen.until(r"t500 t501 ")


def test_chat_rides_out_a_gateway_that_is_killed(stack: FleetUp, session: str) -> None:
    slow = json.dumps({"tokens": 60, "rate": 20, "first_ms": 0})
    with terminal(stack, "--session", session, "--agent", "chat") as screen:
        screen.until("you>")
        screen.type(f"{slow}\r")
        screen.until(r"t0 t1 ")
        os.kill(stack.pid("gateway"), signal.SIGKILL)
        seen = screen.until(r"t59 ", timeout_s=40)
    assert "connecting again" in seen
