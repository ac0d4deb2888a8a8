"""Holds what mm1 writes for programs against docs/output.schema.json."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA: dict[str, Any] = json.loads((DOCS / "output.schema.json").read_text(encoding="utf-8"))


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, which lets new fields in, as one that allows only what it names."""

    def close(node: object) -> None:
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object" and "allOf" not in node:
                node["additionalProperties"] = False
            for child in node.values():
                close(child)
        elif isinstance(node, list):
            for child in node:
                close(child)

    strict = copy.deepcopy(schema)
    close(strict)
    return strict


def check(value: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(value)


def check_object(value: object) -> None:
    check(value, closed(SCHEMA))


def check_event(event: dict[str, Any]) -> None:
    check(event, {"$ref": "#/$defs/event", "$defs": SCHEMA["$defs"]})
    body = {key: event[key] for key in event if key not in ("type", "schema_version")}
    name = {"result": "answer"}.get(event["type"], event["type"])
    if name in SCHEMA["$defs"]:
        check(body, {"$ref": f"#/$defs/{name}", "$defs": closed(SCHEMA)["$defs"]})
