"""The OpenAPI 3.1 document of the server, generated from the table of endpoints: it can't say anything else."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec

from tinker_actors.codec.forward_backward_json import RequestForm
from tinker_actors.codec.json_forms import FORMS
from tinker_actors.local.endpoints.incoming import Raw, Streamed
from tinker_actors.local.endpoints.table import ENDPOINTS, Endpoint
from tinker_actors.types import ForwardBackwardRequest, SampleStreamChunk

__all__ = ["BODIES", "body_type", "openapi"]

T = TypeVar("T")

_ROOT: Final = "/api/v1"
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")
_JSON: Final = "application/json"
_PROTOBUF: Final = "application/x-protobuf"
_EVENTS: Final = "text/event-stream"
_BYTES: Final = "application/octet-stream"
_SECURITY: Final = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
BODIES: Final[Mapping[type[Any], type[Any]]] = {ForwardBackwardRequest: RequestForm}
"""What bodies look like in JSON where that is another type."""


class Error(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    detail: str


def openapi(endpoints: Iterable[Endpoint[Any]] = ENDPOINTS) -> Mapping[str, Any]:
    """The document, as JSON can hold it."""
    known = tuple(endpoints)
    wanted = [body_type(endpoint.body) for endpoint in known if endpoint.body is not type(None)]
    wanted += [_form(kind) for endpoint in known for kind in _answers(endpoint)]
    unique = list(dict.fromkeys([*wanted, SampleStreamChunk, Error]))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    by_type = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in known:
        path = _ROOT + _PARAMETER.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, by_type, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tinker-actors local server",
            "version": version("tinker-actors"),
            "description": "Every error has a JSON body with a detail. Unknown keys of bodies are ignored.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def body_type(kind: type[Any]) -> type[Any]:
    """The type that a body of ``kind`` is read as."""
    return BODIES.get(kind, _form(kind))


def _operation(
    endpoint: Endpoint[Any], schemas: Mapping[type[Any], Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    described = inspect.getdoc(endpoint.call) or ""
    summary, _, rest = described.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "summary": " ".join(summary.split()),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(endpoint.path)
        ],
        "responses": _responses(endpoint, schemas),
        "security": [] if endpoint.open else [{"key": []}],
    }
    if rest:
        operation["description"] = " ".join(rest.split())
    if endpoint.body is type(None):
        return operation
    schema = schemas[body_type(endpoint.body)]
    if endpoint.method == "GET":
        operation["parameters"] += _query(components[schema["$ref"].rpartition("/")[2]])
        return operation
    content = {_JSON: {"schema": schema}}
    if endpoint.body is ForwardBackwardRequest:
        content[_PROTOBUF] = {"schema": {"type": "string", "format": "binary"}}
    operation["requestBody"] = {"required": True, "content": content}
    return operation


def _query(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]


def _responses(endpoint: Endpoint[Any], schemas: Mapping[type[Any], Any]) -> dict[str, Any]:
    error = {"description": "refused", "content": {_JSON: {"schema": schemas[Error]}}}
    returned = _returned(endpoint)
    if returned == (type(None),):
        return {"204": {"description": "done"}, "default": error}
    content: dict[str, Any] = {}
    values = [schemas[_form(kind)] for kind in _answers(endpoint)]
    if values:
        content[_JSON] = {"schema": values[0] if len(values) == 1 else {"anyOf": values}}
    if Raw in returned:  # a result, a file or a redirect to one
        content[_BYTES] = {"schema": {"type": "string", "format": "binary"}}
        content.setdefault(_JSON, {"schema": {"type": "object"}})
    if Streamed in returned:
        content[_EVENTS] = {"schema": schemas[SampleStreamChunk]}
    return {"200": {"description": "done", "content": content}, "default": error}


def _answers(endpoint: Endpoint[Any]) -> list[type[Any]]:
    return [kind for kind in _returned(endpoint) if kind not in (type(None), Raw, Streamed)]


def _returned(endpoint: Endpoint[Any]) -> tuple[type[Any], ...]:
    returned = get_type_hints(endpoint.call)["return"]
    return get_args(returned) if isinstance(returned, types.UnionType) else (returned,)


def _form(kind: type[Any]) -> type[Any]:
    form = FORMS.get(kind)
    return kind if form is None else form.form


def _name(endpoint: Endpoint[Any]) -> str:
    parts = [part for part in re.split(r"\W+", _PARAMETER.sub(r"\1", endpoint.path)) if part]
    return "_".join([endpoint.method.lower(), *parts])
