"""The schema of explain's reports."""

import json

import jsonschema

from tests.paths import ROOT

SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "hifi_ref/explain/report.schema.json").read_text()))
