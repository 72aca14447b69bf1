"""The JSON schema of experiment files, for editors that complete and check YAML.

A file may extend another one. So no key is required, null is allowed everywhere (it removes a key beneath), and a part
may be given without the name that it has beneath.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from cmtl_ir import backbones
from cmtl_ir.backbones.fields import signature_record
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.own_training import BY_NAME
from cmtl_ir.config.unlearning import UnlearningConfig
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.families import FAMILIES, KEYS, Family
from cmtl_ir.tasks.config import TaskConfig

Schema = dict[str, Any]
NULL: Schema = {"type": "null"}
OWN: Schema = {"type": "string", "pattern": ":"}
"""A class from outside: `file.py:Class` or `library:NAME`."""
RANGE: Schema = {
    "type": "object",
    "properties": {
        **{kind: {"type": "array", "items": {"type": "number"}} for kind in ("float", "int", "times")},
        "choice": {"type": "array", "minItems": 1},
        "log": {"type": "boolean"},
        "step": {"type": "number", "exclusiveMinimum": 0},
    },
    "additionalProperties": False,
    "minProperties": 1,
}
"""A parameter of a search."""


class Tolerant(GenerateJsonSchema):
    """Accepts anything for fields that JSON schema cannot express, instead of failing."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}


def json_schema(sections: Mapping[str, type[BaseModel]] | None = None) -> Schema:
    """Return the JSON schema of an experiment file, with the fields of every installed part.

    `sections`: further keys of a file -> their record, such as `search`. `None`: there are none.
    """
    frame = Experiment.model_json_schema(schema_generator=Tolerant)
    definitions: Schema = frame.setdefault("$defs", {})
    for family in FAMILIES:
        classes = {name: registry.load(family, name) for name in registry.names(family)}
        definitions[family] = _named(classes, definitions, family)
    networks = {name: signature_record(backbones.backbone_class(name)) for name in backbones.shipped()}
    definitions["backbone"] = _named(networks, definitions, "backbone")
    definitions["Strategy"] = _strategy(frame["properties"]["start"])
    definitions["TaskConfig"] = _task(definitions)
    _training(definitions)
    metrics = definitions["EvaluationConfig"]["properties"]["metrics"]
    metrics["items"] = {"anyOf": [{"enum": registry.names("metric")}, OWN]}
    for family, contract in FAMILIES.items():  # a part as the field of another one
        if (name := contract.base().__name__) in definitions:
            definitions[name] = _ref(family)
    keys = frame["properties"]
    keys |= {"backbone": _ref("backbone"), "unlearning": _unlearning()}
    keys["extends"] = {"type": "string", "description": "Experiment beneath this one (deep merge)."}
    for key, record in (sections or {}).items():
        keys[key] = _section(record, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_relaxed(frame)}


# ---------------------------------------------------------------------------------------------------- named parts


def _named(records: Mapping[str, type[BaseModel]], definitions: Schema, family: str) -> Schema:
    """Return the schema of a name, or of a mapping with the fields of its name."""
    fields = {name: _fields(record, definitions) for name, record in records.items()}
    shapes = [_mapping({"name": {"const": name}, **own}, ["name"], records[name]) for name, own in fields.items()]
    names = {"type": "string", "enum": [*records, *(f"{family}/{name}" for name in records)]}
    own = {"type": "object", "properties": {"name": OWN}, "required": ["name"]}
    return {"anyOf": [names, OWN, *shapes, own, _unnamed(fields.values(), "name")]}


def _fields(record: type[BaseModel], definitions: Schema) -> Schema:
    """Return the schema of each field of a record. What they refer to joins the definitions, which are at the root."""
    plain = record.model_json_schema(schema_generator=Tolerant)
    definitions.update(plain.get("$defs", {}))
    found: Schema = plain.get("properties", {})
    return found


def _mapping(properties: Schema, required: list[str], record: type[BaseModel] | None = None) -> Schema:
    text = (record.__doc__ or "").strip().split("\n")[0] if record is not None else ""
    told = {"description": text} if text else {}
    return {"type": "object", **told, "properties": properties, "required": required, "additionalProperties": False}


def _unnamed(fields: Collection[Schema], key: str, more: Schema | None = None) -> Schema:
    """Return the schema of fields whose name is in the file beneath: those of any name. `more`: further keys."""
    known: Schema = {field: {} for own in fields for field in own}
    return {**_mapping({**known, **(more or {})}, []), "not": {"required": [key]}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


# ------------------------------------------------------------------------------------------------------- sections


def _strategy(start: Schema) -> Schema:
    """Return the schema of a strategy. `start`: that of its start, which the experiment may give too."""
    parts = {key: _key(family) for key, family in KEYS.items()}
    parts["weighting_sees"] = {"enum": ["restoration", "total"], "default": "restoration"}
    return _mapping({**parts, "training": _ref("OwnTraining"), "start": start}, [])


def _key(family: Family) -> Schema:
    """Return the schema of a key of a strategy."""
    part = _ref(family.name)
    return {"anyOf": [part, {"type": "array", "items": part}, NULL]} if family.many else part


def _task(definitions: Schema) -> Schema:
    """Return the schema of a task: a degradation with its fields, pairs, or what changes a task beneath."""
    shared = dict(definitions["TaskConfig"]["properties"])
    shared.pop("degradation")
    fields = {
        name: {key: _or_one_number(one) for key, one in _fields(record, definitions).items()}
        for name in registry.names("degradation")
        for record in [registry.load("degradation", name)]
    }
    shapes = [
        _mapping({**own, **shared, "degradation": {"const": name}}, ["degradation"]) for name, own in fields.items()
    ]
    own = {"type": "object", "properties": {"degradation": OWN, **shared}, "required": ["degradation"]}
    beneath = _unnamed(fields.values(), "degradation", shared)
    return {"anyOf": [*shapes, own, beneath], "description": TaskConfig.__doc__}


def _or_one_number(field: Schema) -> Schema:
    """Return the schema of a list of levels or a range, which may be one number."""
    return {"anyOf": [field, {"type": "number"}]} if field.get("type") == "array" else field


def _training(definitions: Schema) -> None:
    """Let the settings be given by name, and define those of a single strategy, which has no shared objectives."""
    settings = definitions["TrainingConfig"]["properties"]
    for key in BY_NAME:
        record = definitions[f"{key.title()}Config"]
        settings[key] = {"anyOf": [_ref(f"{key.title()}Config"), record["properties"]["name"]]}
    settings["loss"] |= _ref("objective")
    settings["loss"].pop("anyOf", None)
    definitions["OwnTraining"] = {**definitions["TrainingConfig"], "properties": dict(settings)}
    items = {"type": "array", "items": _ref("objective")}
    settings["auxiliary"] = {**items, "description": "Auxiliary objectives of every strategy."}


def _unlearning() -> Schema:
    """Return the schema of a request to forget. A label that is the name of a method may have its fields alone."""
    methods = {name: _ref("unlearning") for name in registry.names("unlearning")}
    allowed = {"type": "object", "properties": methods, "additionalProperties": _ref("unlearning")}
    fields = UnlearningConfig.model_fields
    described = {name: {"description": field.description or ""} for name, field in fields.items()}
    tasks = {"type": "array", "items": {"type": "string"}}
    kinds: Schema = {"run": {"type": "string"}, "forget": tasks, "methods": allowed, "retain": {"type": "boolean"}}
    return _mapping({name: {**kind, **described[name]} for name, kind in kinds.items()}, [])


def _section(record: type[BaseModel], definitions: Schema) -> Schema:
    """Return the schema of a section of search. Its ranges and strategies are those of this file."""
    fields = _fields(record, definitions)
    ranges = {"type": "object", "additionalProperties": RANGE}
    own: Schema = {"space": ranges, "shared": ranges, "own": {"type": "object", "additionalProperties": ranges}}
    if "space" in fields:
        own["strategy"] = {"anyOf": [{"type": "string"}, _ref("Strategy")]}
    for key in {"sampler", "pruner"} & fields.keys():
        own[key] = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["name"]}]}
    if "objectives" in fields:
        names = fields["objectives"].get("propertyNames", {})
        own["objectives"] = {"anyOf": [{"type": "array", "items": names}, {"type": "object", "propertyNames": names}]}
    told = {
        key: {"description": fields[key].get("description", ""), **one} for key, one in own.items() if key in fields
    }
    return _mapping({**fields, **told}, [], record)


# -------------------------------------------------------------------------------------------------------- extends


def _relaxed(schema: Any) -> Any:
    """Return a schema in which every key may be null and only names of parts are required."""
    if isinstance(schema, list):
        return [_relaxed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: one if key in ("default", "examples") else _relaxed(one) for key, one in schema.items()}
    if isinstance(schema.get("properties"), dict):
        made["properties"] = {key: _or_null(one) for key, one in made["properties"].items()}
        named = [key for key in schema.get("required", ()) if _is_a_name(schema["properties"].get(key, {}))]
        made["required"] = named
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _or_null(made["additionalProperties"])
    return made


def _is_a_name(schema: Schema) -> bool:
    return "const" in schema or schema == OWN


def _or_null(schema: Schema) -> Schema:
    if _is_a_name(schema) or schema == {} or NULL in schema.get("anyOf", ()):
        return schema
    told: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    return {**told, "anyOf": [schema, NULL]}
