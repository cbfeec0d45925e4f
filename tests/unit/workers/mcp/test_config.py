"""The operator's file: what it may say, and the sentence where it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workers.agent import RegistrationError
from workers.mcp.config import McpConfig, PolicyConfig, ServerConfig, load
from workers.mcp.environment import environment

PAGE = Path(__file__).resolve().parents[4] / "docs" / "mcp.md"
STDIO = {"transport": "stdio", "command": "it", "others": {}}


def test_the_example_of_the_docs_is_legal(tmp_path: Path) -> None:
    text = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    place = tmp_path / "mcp.yaml"
    place.write_text(text)
    config = load(place, {"TICKETS_AUTHORIZATION": "Bearer x"})
    assert config.servers["time"].policy_of("get_current_time") == PolicyConfig(read_only=True)
    assert config.servers["time"].policy_of("convert_time") is None
    assert config.servers["tickets"].tools["create"].policy().tenants == frozenset({"acme"})


def test_the_docs_list_every_key() -> None:
    page = PAGE.read_text()
    for name in (*ServerConfig.model_fields, *PolicyConfig.model_fields):
        assert f"| `{name}` |" in page, name


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        ({**STDIO, "comand": "x"}, "servers.it.comand"),
        ({**STDIO, "url": "https://a"}, "url belongs to transport http"),
        ({"transport": "stdio", "others": {}}, "command belongs to transport stdio"),
        ({"transport": "http", "others": {}}, "url belongs to transport http"),
        ({"transport": "http", "url": "ftp://a", "others": {}}, "servers.it.url"),
        ({"transport": "stdio", "command": "it"}, "neither tools nor others"),
        ({**STDIO, "env": {"KEY": "FLEET_MODEL_KEY"}}, "FLEET_MODEL_KEY is a variable of ours"),
        ({**STDIO, "env": {"KEY": "NOT_SET"}}, "server it wants variable NOT_SET, which is not set"),
        ({**STDIO, "tools": {"a": {"timeout_s": 0}}}, "servers.it.tools.a.timeout_s"),
        ({**STDIO, "tools": {"a": {"readonly": True}}}, "servers.it.tools.a.readonly"),
        ({**STDIO, "prefix": "a b"}, "servers.it.prefix"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, server: dict[str, object], sentence: str) -> None:
    place = tmp_path / "mcp.yaml"
    place.write_text(yaml.safe_dump({"servers": {"it": server}}))
    with pytest.raises(RegistrationError) as caught:
        load(place, {})
    assert str(caught.value).startswith(f"FLEET_MCP: {place}: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", ["[", "a: b: c", "- x", "servers: {It: {}}", "\x00"])
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    place = tmp_path / "mcp.yaml"
    place.write_text(text)
    with pytest.raises(RegistrationError, match="FLEET_MCP: "):
        load(place, {})


def test_no_file_is_no_servers(tmp_path: Path) -> None:
    assert load(None) == McpConfig()
    with pytest.raises(RegistrationError, match="cannot read"):
        load(tmp_path / "none.yaml")


def test_a_server_finds_what_was_named_and_nothing_else() -> None:
    config = ServerConfig.model_validate({**STDIO, "env": {"TOKEN": "MINE"}, "variables": {"MODE": "x"}})
    given = {"PATH": "/bin", "MINE": "1", "FLEET_MODEL_KEY": "canary", "AWS_SECRET": "canary", "TURNFLEET_DATA": "/d"}
    assert environment(config, Path("/h"), given) == {
        "PATH": "/bin", "HOME": "/h", "TMPDIR": "/h", "LANG": "C.UTF-8", "TURNFLEET_DATA": "/d", "MODE": "x",
        "TOKEN": "1",
    }  # fmt: skip
