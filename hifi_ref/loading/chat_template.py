"""The chat template: libllama keeps it as it stands; the programs that chat are those that parse it."""

from __future__ import annotations

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from hifi_ref.loading.metadata import Metadata
from hifi_ref.loading.report import Report

KEY = "tokenizer.chat_template"


class _Generation(jinja2.ext.Extension):
    """The tag {% generation %} of Hugging Face's transformers, which marks what the model itself says."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
)


def check(metadata: Metadata, report: Report) -> None:
    """Note a template, or one of the named ones (tokenizer.chat_template.NAME), that is no text or does not parse."""
    for key in metadata.gguf.metadata:
        if key != KEY and not key.startswith(KEY + "."):
            continue
        raw = metadata.raw_text(key)
        if raw is None:
            report.note("L008", key, f"{key} is no single string")
            continue
        try:
            _ENVIRONMENT.parse(raw.decode())
        except UnicodeDecodeError as error:
            report.note("L008", key, f"{key} is not UTF-8 at byte {error.start}")
        except jinja2.TemplateSyntaxError as error:
            report.note("L008", key, f"{key} does not parse, line {error.lineno}: {error.message}")
        except RecursionError:
            report.note("L008", key, f"{key} does not parse: it is nested too deeply")
