"""The pages that commands write: text is escaped, nothing is missing, nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest

from hifi_ref.commands import pages

TEMPLATE = '{% extends "page.html" %}{% block body %}<p>{{ words }}</p>{% endblock %}'


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(TEMPLATE)
    return path


def test_text_is_escaped_and_nothing_is_loaded(template: Path) -> None:
    page = pages.render(template, title="a & <b>", words="<script>'\"")
    assert page.startswith("<!DOCTYPE html>\n<html") and "<title>a &amp; &lt;b&gt;</title>" in page
    assert "<p>&lt;script&gt;&#39;&#34;</p>" in page and "<script" not in page
    assert "<style>\n:root" in page and not re.search(r"https?:|url\(|@import|<link", page)


def test_a_value_that_a_template_lacks_is_an_error(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'words' is undefined"):
        pages.render(template, title="t")
