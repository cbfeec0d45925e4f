"""What a model's answer must look like as a value: how it is asked for, how it is read. Knows no model and no step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import Draft202012Validator, validator_for
from pydantic import BaseModel, JsonValue, ValidationError

from schemas.codec import first_error
from schemas.codes import Code
from schemas.errors import TerminalError
from workers.models.port import OutputSpec

Wanted = Mapping[str, JsonValue] | type[BaseModel]
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.S)
_TEXT_CHARS = 400


class NotFitting(Exception):
    """An answer is not what was wanted; the text says why, for the model."""


class Output:
    """Of a JSON Schema, or of a pydantic model, whose value is an instance of it. Raises TerminalError(agent_error) for
    a schema that is none."""

    def __init__(self, wanted: Wanted) -> None:
        self._model = wanted if isinstance(wanted, type) else None
        schema = wanted.model_json_schema() if isinstance(wanted, type) else dict(wanted)
        self.spec = OutputSpec(self._model.__name__ if self._model is not None else "answer", schema)
        self._validator = validator_for(schema, default=Draft202012Validator)
        try:
            self._validator.check_schema(schema)
        except SchemaError as error:
            raise TerminalError(Code.AGENT_ERROR, f"output: no JSON Schema: {error.message[:_TEXT_CHARS]}") from None

    @property
    def instruction(self) -> str:
        """For the system text: not every server knows another way, and one that does not says nothing."""
        schema = orjson.dumps(self.spec.schema).decode()
        return f"Answer with JSON that fits this schema, and with nothing else:\n{schema}"

    def read(self, text: str) -> Any:
        """The value that a text is. Raises NotFitting."""
        fenced = _FENCED.fullmatch(text)
        try:
            value = orjson.loads(fenced[1] if fenced else text)
        except ValueError as error:
            raise NotFitting(f"it is no JSON: {error}") from None
        if self._model is not None:
            try:
                return self._model.model_validate(value)
            except ValidationError as error:
                raise NotFitting(first_error(error)[:_TEXT_CHARS]) from None
        fault = best_match(self._validator(self.spec.schema).iter_errors(value))
        if fault is not None:
            raise NotFitting(f"{fault.json_path}: {fault.message}"[:_TEXT_CHARS])
        return value
