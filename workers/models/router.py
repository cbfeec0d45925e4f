"""One model over all providers: whom to ask stands in the model's name. Knows adapters by name alone; loads one when it
is needed, for each is an extra with a client library of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from schemas.settings import PROVIDERS, ModelSettings, provider_of
from workers.models.port import Model, ModelMisconfigured, ModelPiece, ModelRefused, ModelRequest

Make = Callable[[ModelSettings], Model]


class RoutedModel:
    """`endpoint`: whom to ask for a name without a provider. `makers`: adapters instead of the shipped ones (tests)."""

    def __init__(self, endpoint: Model, settings: ModelSettings, makers: Mapping[str, Make] | None = None) -> None:
        self._settings = settings
        self._makers = makers or {}
        self._models: dict[str, Model] = {"openai": endpoint}

    def require(self, models: Iterable[str]) -> None:
        """Make what these names need. Raises ModelMisconfigured for the first that cannot be asked, at the start."""
        for model in models:
            self._of(provider_of(model))

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelPiece]]:
        """As the port says."""
        model = request.model or self._settings.model
        try:
            adapter = self._of(provider_of(model))
        except ModelMisconfigured as error:
            raise ModelRefused(str(error)) from None
        return adapter.stream(request if request.model == model else replace(request, model=model))

    async def close(self) -> None:
        """Close all of them."""
        for model in self._models.values():
            await model.close()

    def _of(self, provider: str) -> Model:
        if (model := self._models.get(provider)) is None:
            make = self._makers.get(provider) or _shipped(provider)
            model = self._models[provider] = make(self._settings)
        return model


def _shipped(provider: str) -> Make:
    """The adapter's maker. Raises ModelMisconfigured where its extra is not installed."""
    if provider not in PROVIDERS:
        raise ModelMisconfigured(f"no provider {provider!r}")
    try:
        module = importlib.import_module(f"workers.models.{provider}")
    except ImportError as error:
        raise ModelMisconfigured(
            f"a model `{provider}:…` wants the extra `{provider}`: install turnfleet[{provider}] ({error})"
        ) from None
    make: Make = getattr(module, f"{provider}_model")
    return make
