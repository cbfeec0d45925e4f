"""New versions take new sessions first: by tenant, by share, the same on every worker; sessions keep what they have."""

from __future__ import annotations

import pytest

from fleet.agents import rows_of
from workers.agent import Agent, AgentSpec, RegistrationError, SessionInfo
from workers.agents.echo import Echo
from workers.registry import Registry
from workers.rollout import Rollout

VERSIONS = {"support": ["1", "2", "3"]}


async def _build(spec: AgentSpec, session: SessionInfo) -> Agent:
    return Echo()


def registry(*rules: str) -> Registry:
    made = Registry([AgentSpec("support", version, _build) for version in VERSIONS["support"]], default="support")
    made.rollout = Rollout.of(rules, VERSIONS)
    return made


def share(made: Registry, version: str) -> float:
    picked = [made.version("support", "t", f"s{number}") for number in range(4_000)]
    return picked.count(version) / len(picked)


def test_without_a_rule_new_sessions_get_the_last_one_registered() -> None:
    made = registry()
    assert (made.version(None, "t", "s"), made.get("support").version) == ("3", "3")


def test_a_share_of_the_new_sessions_gets_the_new_version_and_grows_without_moving_anybody_back() -> None:
    small, large = registry("support@3=10%"), registry("support@3=40%")

    assert 0.08 < share(small, "3") < 0.12
    assert 0.37 < share(large, "3") < 0.43
    assert share(small, "2") == 1 - share(small, "3")
    for number in range(1_000):
        if small.version("support", "t", f"s{number}") == "3":
            assert large.version("support", "t", f"s{number}") == "3"


def test_a_tenant_s_new_sessions_go_first() -> None:
    made = registry("support@3=acme|beta", "support@2=50%")

    assert {made.version("support", "acme", f"s{number}") for number in range(50)} == {"3"}
    assert {made.version("support", "other", f"s{number}") for number in range(50)} == {"1", "2"}


def test_a_session_keeps_its_version_and_goes_on_with_the_settled_one_when_that_is_gone() -> None:
    made = registry("support@3=10%")

    assert made.get("support", "1").version == "1"
    assert made.get("support", "0").version == "2"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("support@9=10%", "is not registered; there are: support@1, support@2, support@3"),
        ("other@1=10%", "is not registered"),
        ("support@1", "is no `agent@version=25%`"),
        ("support=10%", "is no `agent@version=25%`"),
        ("support@1=-1%", "give a share from 0% to 100%"),
        ("support@1=x%", "give a share from 0% to 100%"),
    ],
)
def test_a_rule_that_means_nothing_is_refused_at_the_start(rule: str, says: str) -> None:
    with pytest.raises(RegistrationError) as error:
        Rollout.of([rule], VERSIONS)
    assert says in str(error.value)


def test_shares_beyond_the_whole_are_refused() -> None:
    with pytest.raises(RegistrationError, match="120 % together"):
        Rollout.of(["support@1=60%", "support@2=60%"], VERSIONS)


def test_versions_of_one_name_come_from_one_place() -> None:
    made = registry()
    with pytest.raises(RegistrationError, match="registered already by the code"):
        made.add([AgentSpec("support", "4", _build)], "elsewhere")
    with pytest.raises(RegistrationError, match="registered already"):
        made.add([AgentSpec("support", "3", _build)], "the code")


def test_the_command_shows_who_runs_what() -> None:
    rows = rows_of(registry("support@3=10%", "support@3=acme"), {("support", "2"): 7, ("support", "0"): 2})

    assert [(row["version"], row["new_sessions"], row["sessions"]) for row in rows] == [
        ("1", "", 0),
        ("2", "all others", 7),
        ("3", "10 %, acme", 0),
        ("0", "", 2),
    ]
    assert [row["new_sessions"] for row in rows_of(Registry([AgentSpec("a", "1", _build)]))] == ["all"]
