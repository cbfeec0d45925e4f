"""The base of every model that travels or is stored. Knows nothing of what the models say."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, strict about types, deaf to fields it does not know (readers ignore unknown fields)."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    @classmethod
    def trusted(cls, **fields: Any) -> Self:
        """Made without validation, at a fifth of the price when every field is given: only for values that are ours
        and right by type."""
        layout = _LAYOUTS.get(cls) or _layout(cls)
        new = _new(cls)
        _set_values(new, fields if len(fields) == len(layout.defaults) else {**layout.defaults, **fields})
        _set_names(new, layout.names)
        _set_extra(new, None)
        _set_private(new, None)
        return new


def without_defaults(model: Frozen) -> bytes:
    """JSON of a model as it is stored: fields that hold their default are left out."""
    return model.__pydantic_serializer__.to_json(model, exclude_defaults=True)


class _Layout(NamedTuple):
    """Names of a model's fields (shared by all that are trusted: nobody adds to it), and names with defaults, in
    order. Defaults are immutable or never changed: the models are frozen."""

    names: set[str]
    defaults: dict[str, Any]


_LAYOUTS: dict[type[Frozen], _Layout] = {}
_new = object.__new__
# The four places where pydantic keeps a model's values: written past its `__setattr__`, which refuses on frozen models.
_set_values: Any = BaseModel.__dict__["__dict__"].__set__
_set_names: Any = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra: Any = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private: Any = BaseModel.__dict__["__pydantic_private__"].__set__


def _layout(model: type[Frozen]) -> _Layout:
    fields = model.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True, validated_data={}) for name, field in fields}
    layout = _LAYOUTS[model] = _Layout(set(defaults), defaults)
    return layout
