"""The models behind pydantic-ai's providers. Knows the library's way to ask; no provider's client, no retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import Model as LibraryModelOf
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings as Said
from pydantic_ai.tools import ToolDefinition

from schemas.settings import ModelSettings
from workers.models.library_answer import LibraryAnswer
from workers.models.library_messages import messages_of
from workers.models.port import ModelRequest, Timeouts

# A model's name comes from an agent's code: a loop over invented ones must not fill the memory.
_MOST = 1_000


class LibraryModel:
    """One provider's models, by the names `<provider>:<name>`.

    `make(name)`: the library's model; `close`: gives up the provider's client; `addresses`: the provider fetches
    pictures by their address; `said`: settings that go along with every call.
    """

    def __init__(
        self,
        provider: str,
        make: Callable[[str], LibraryModelOf[Any]],
        settings: ModelSettings,
        *,
        close: Callable[[], Awaitable[None]],
        addresses: bool = False,
        said: Said | None = None,
    ) -> None:
        self.provider = provider
        self.coalesce_s = settings.model_coalesce_ms / 1000
        self.timeouts = Timeouts.of(settings)
        self._addresses = addresses
        self._said = said or {}
        self._make = make
        self._made: dict[str, LibraryModelOf[Any]] = {}
        self._close = close

    def stream(self, request: ModelRequest) -> LibraryAnswer:
        """As the port says."""
        limits = request.timeouts or self.timeouts
        model = request.model or ""
        return LibraryAnswer(
            lambda: model_request_stream(
                self._model(model.removeprefix(f"{self.provider}:")),
                messages_of(request, addresses=self._addresses),
                model_settings=self._settings(request),
                model_request_parameters=_parameters(request, native=self._native(request)),
                instrument=False,
            ),
            provider=self.provider,
            model=model,
            limits=limits,
            coalesce_s=self.coalesce_s,
        )

    async def close(self) -> None:
        """Cut idle connections."""
        await self._close()

    def _model(self, name: str) -> LibraryModelOf[Any]:
        if (made := self._made.get(name)) is None:
            if len(self._made) >= _MOST:
                self._made.clear()
            made = self._made[name] = self._make(name)
        return made

    def _native(self, request: ModelRequest) -> bool:
        """Whether the provider is told what the answer must be; beside tools not every one can."""
        name = (request.model or "").removeprefix(f"{self.provider}:")
        if request.output is None or request.tools:
            return False
        return bool(self._model(name).profile.get("supports_json_schema_output", False))

    def _settings(self, request: ModelRequest) -> Said:
        said: Said = {
            **self._said,
            "extra_headers": {"x-fleet-session": request.session, "x-fleet-turn": request.turn},
        }
        if request.temperature is not None:
            said["temperature"] = request.temperature
        if request.max_tokens is not None:
            said["max_tokens"] = request.max_tokens
        return said


def _parameters(request: ModelRequest, *, native: bool) -> ModelRequestParameters:
    wanted = request.output if native else None
    return ModelRequestParameters(
        output_mode="native" if wanted is not None else "text",
        output_object=OutputObjectDefinition(json_schema=dict(wanted.schema), name=wanted.name) if wanted else None,
        function_tools=[
            ToolDefinition(
                name=tool.name,
                description=tool.description,
                parameters_json_schema=dict(tool.parameters) or {"type": "object", "properties": {}},
            )
            for tool in request.tools
        ],
    )
