"""Keeps the keys of providers out of errors: a server may repeat what it was sent. Knows no provider and no log."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from schemas.settings import ModelSettings

_KEYS = ("model_key", "anthropic_key", "google_key", "bedrock_key")
_URLS = ("model_url", "anthropic_url", "google_url", "bedrock_url")
_LEAST_CHARS = 6  # a shorter one is a placeholder, and stands in ordinary words
_MASK = "[key]"


class Secrets:
    """What the settings hold of keys, and of credentials in addresses."""

    def __init__(self, settings: ModelSettings) -> None:
        found = {getattr(settings, name).strip() for name in _KEYS}
        for name in _URLS:
            found |= _of_url(getattr(settings, name))
        self._found = sorted((each for each in found if len(each) >= _LEAST_CHARS), key=len, reverse=True)

    def masked(self, text: str) -> str:
        """`text` without any of them."""
        for secret in self._found:
            text = text.replace(secret, _MASK)
            shown = next((n for n in range(len(secret) - 1, _LEAST_CHARS - 1, -1) if text.endswith(secret[:n])), 0)
            if shown:  # a text that was cut
                text = text[:-shown] + _MASK
        return text

    def clean(self, error: BaseException) -> None:
        """Mask the error's text, and drop what led to it from where one of them stands."""
        if not self._found:
            return
        error.args = tuple(self.masked(arg) if isinstance(arg, str) else arg for arg in error.args)
        for name in ("__cause__", "__context__"):
            earlier = getattr(error, name)
            if earlier is None:
                continue
            if self._in(f"{earlier} {earlier!r} {getattr(earlier, 'body', '')}"):
                setattr(error, name, None)
            else:
                self.clean(earlier)

    def _in(self, text: str) -> bool:
        return any(secret in text for secret in self._found)


def _of_url(url: str) -> set[str]:
    """Password and parameters: what stands in an address to prove who asks."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    given = {value for pair in parts.query.split("&") if (value := pair.partition("=")[2])}
    if parts.password:
        given |= {parts.password, unquote(parts.password)}
    return given | {unquote(value) for value in given}
