"""docs/glossary.md: each term once, in order, in few words, and used; test_docs.py sees where links to it lead."""

from __future__ import annotations

from tests.paths import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
ENTRIES = {term: text for term, _, text in (part.partition("\n\n") for part in GLOSSARY.read_text().split("\n## ")[1:])}
TERMS = list(ENTRIES)


def test_each_term_once_in_order() -> None:
    assert len(TERMS) >= 50 and len(TERMS) == GLOSSARY.read_text().count("\n## ")
    assert sorted(TERMS, key=str.lower) == TERMS


def test_few_words() -> None:
    assert [term for term, text in ENTRIES.items() if "\n\n" in text.strip() or not 5 <= len(text.split()) <= 45] == []


def test_each_is_used_in_another_page() -> None:
    pages = [path.read_text() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path != GLOSSARY]
    words = " ".join(" ".join(pages).lower().split())
    assert [term for term in TERMS if term.lower() not in words] == []
