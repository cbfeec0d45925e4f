"""Whom a model is asked from."""

from __future__ import annotations

import sys

import pytest

from schemas.history import said
from schemas.settings import ModelSettings
from workers.models.port import ModelDone, ModelMisconfigured, ModelRefused, ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.router import RoutedModel
from workers.models.scripted import Script, ScriptedModel

REQUEST = ModelRequest("s", "t", (said(item="t~0", turn="t", role="user", text="hi", at_ms=0),))


def routed(default: str = "m", **more: ScriptedModel) -> tuple[RoutedModel, ScriptedModel]:
    endpoint = ScriptedModel()
    makers = {name: lambda settings, model=model: model for name, model in more.items()}
    return RoutedModel(endpoint, ModelSettings(model=default), makers), endpoint


async def ask(model: RoutedModel, name: str | None, *fallbacks: str, attempts: int = 1) -> ModelDone:
    settings = ModelSettings(model="m", model_attempts=attempts)
    request = ModelRequest("s", "t", REQUEST.messages, model=name, fallbacks=fallbacks)
    return await ModelCaller(model, settings, chance=lambda: 0.0).ask(request, piece=lambda piece: None)


async def test_a_name_goes_to_its_provider_and_any_other_to_the_endpoint() -> None:
    claude = ScriptedModel()
    model, endpoint = routed(anthropic=claude)
    for name in ("anthropic:claude-x", "llama3:8b", "anthropic-like", None):
        await ask(model, name)
    assert [call.request.model for call in claude.calls] == ["anthropic:claude-x"]
    assert [call.request.model for call in endpoint.calls] == ["llama3:8b", "anthropic-like", "m"]


async def test_the_default_may_be_another_provider() -> None:
    claude = ScriptedModel()
    model, endpoint = routed("anthropic:claude-x", anthropic=claude)
    async with model.stream(REQUEST) as pieces:
        done = [piece async for piece in pieces][-1]
    assert isinstance(done, ModelDone)
    assert (done.model, len(endpoint.calls)) == ("anthropic:claude-x", 0)


async def test_a_fallback_may_be_another_provider() -> None:
    claude = ScriptedModel((Script(error=ModelUnavailable("down")),))
    model, endpoint = routed(anthropic=claude)
    done = await ask(model, "anthropic:claude-x", "m")
    assert (done.model, len(claude.calls), len(endpoint.calls)) == ("m", 1, 1)


@pytest.mark.parametrize("provider", ["anthropic", "google"])
def test_a_provider_without_a_key_is_refused_at_the_start(provider: str) -> None:
    model, _ = routed()
    with pytest.raises(ModelMisconfigured, match=f"FLEET_{provider.upper()}_KEY"):
        model.require(["m", f"{provider}:x"])


def test_a_provider_whose_extra_is_missing_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "workers.models.google", None)
    model, _ = routed()
    with pytest.raises(ModelMisconfigured, match=r"install turnfleet\[google\]"):
        model.require(["google:x"])


async def test_a_provider_that_nobody_named_at_the_start_refuses_the_call() -> None:
    model, _ = routed()
    with pytest.raises(ModelRefused, match="FLEET_ANTHROPIC_KEY"):
        await ask(model, "anthropic:x")


def test_no_key_is_shown() -> None:
    settings = ModelSettings(
        anthropic_key="secret-a", google_key="secret-g", bedrock_key="secret-b", model_key="secret"
    )
    assert "secret" not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("setting", "name", "takes"),
    [
        ("auto", "smollm2", False),
        ("auto", "gpt-x", True),
        ("off", "gpt-x", False),
        ("on", "smollm2", True),
        ("off", "anthropic:claude-x", True),
    ],
)
def test_the_configuration_knows_who_takes_tools(setting: str, name: str, takes: bool) -> None:
    settings = ModelSettings.model_validate({"model": name, "model_tools": setting})
    caller = ModelCaller(ScriptedModel(), settings)
    assert caller.takes_tools() is caller.takes_tools(name) is takes
