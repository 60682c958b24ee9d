"""What a reply must look like: a grammar, or a JSON schema in one of its three places. API.md, 5 and 6."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from proxy.dialects.fields import Fields, typed
from proxy.errors import BadRequest


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's wrapper of a schema."""

    schema: Any = None


class Format(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    schema: Any = None
    json_schema: Named = Named()

    @property
    def found(self) -> Any:
        """The schema; without one any object. None for text."""
        if self.type == "text":
            return None
        schema = self.json_schema.schema if self.type == "json_schema" else None
        schema = self.schema if schema is None else schema
        return {} if schema is None else schema


class Formatted(msgspec.Struct, frozen=True, kw_only=True):
    response_format: Format | None = None


def constraint(body: dict[str, Any], fields: Fields) -> tuple[str, str]:
    """A grammar and the JSON text of a schema, at most one of them not empty. Raises BadRequest."""
    form = typed(body, Formatted).response_format
    said = {
        "grammar": fields.grammar or None,
        "json_schema": fields.json_schema,
        "response_format": form.found if form else None,
    }
    names = [name for name, value in said.items() if value is not None]
    if len(names) > 1:
        raise BadRequest(f"{' and '.join(names)} exclude each other", names[-1], "conflicting_fields")
    if not names or fields.grammar:
        return fields.grammar, ""
    return "", msgspec.json.encode(said[names[0]]).decode()
