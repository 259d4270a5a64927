"""CONTRIBUTING.md's checklist for a new format names every file that a new format may have to touch."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from golden import places
from hifi_ref.formats import FORMATS, HIFI, LLAMA_CPP
from hifi_ref.model_files.dialects import DIALECTS, REFERENCE

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
CHECKLIST, EXAMPLES = TEXT.split("## Add a format")[1].split("`tests/test_contributing.py` looks")
# These also name types of numbers, so that they say nothing of a file.
FLOATS = {"F32", "F16", "BF16"}
ROOMS = ("hifi_ref", "reference", "golden", "tests", "bench", "tools", "docs")
SUFFIXES = {".py", ".md", ".c", ".js", ".mjs"}
# The formats' own pages, and what a program writes of other implementations.
OWN = {f"{folder}/{name.lower()}.py" for name in FORMATS for folder in ("hifi_ref/formats", "hifi_ref/formats/hifi")}
JUDGED = re.compile(r"docs/conformance.*|docs/history\.md|tools/(conformance\w*|history)\.py")


def names_in_code(text: str) -> set[str]:
    """Words of a Python file that stand in strings, but not in docstrings, and in names that it defines or uses."""
    tree, words = ast.parse(text), []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words += re.findall(r"\w+", node.value)
        elif isinstance(node, ast.ImportFrom):
            words += [alias.name for alias in node.names]
        elif isinstance(node, ast.FunctionDef):
            words += [node.name]
    return {word.strip("_").removeprefix("of_").upper() for word in words}


def formats_named(path: str, text: str) -> set[str]:
    """The formats that a file names, but for floats."""
    words = names_in_code(text) if path.endswith(".py") else set(re.findall(r"\w+", text))
    return words & (FORMATS.keys() - FLOATS)


def places_of_formats() -> set[str]:
    """Files of the repository that name more than one format, and so may want to name one more."""
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in SUFFIXES]
    found = set()
    for file in [*files, ROOT / "README.md"]:
        path = str(file.relative_to(ROOT))
        if path not in OWN and not JUDGED.fullmatch(path) and len(formats_named(path, file.read_text())) > 1:
            found.add(path)
    return found


def paths_in(text: str) -> set[str]:
    """Files, each with its folder, and folders; a folder stands for all that is in it."""
    found = re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.\w+)?|[A-Z]+\.md)`", text)
    return set(found) - {"hifi_ref/formats/NAME.py"}


def covered(path: str, listed: set[str]) -> bool:
    return path in listed or any(folder.endswith("/") and path.startswith(folder) for folder in listed)


def test_every_place_is_in_the_checklist() -> None:
    listed = paths_in(CHECKLIST) | paths_in(EXAMPLES)
    assert sorted(path for path in places_of_formats() if not covered(path, listed)) == []


def test_the_checklist_names_what_is_there() -> None:
    checklist, examples = paths_in(CHECKLIST), paths_in(EXAMPLES)
    assert len(checklist) > 30 and all((ROOT / path).exists() for path in checklist | examples)
    assert not checklist & examples
    # What is said to name formats does so.
    found = places_of_formats()
    assert sorted(path for path in examples if not any(covered(place, {path}) for place in found)) == []


def test_a_place_is_seen() -> None:
    assert formats_named("x.py", 'SPEEDS = {"IQ3_XXS": 1, "Q4_K_HIFI": 2}') == {"IQ3_XXS", "Q4_K_HIFI"}
    assert formats_named("x.py", 'NAMES = "iq3_xxs q4_k f16".split()') == {"IQ3_XXS", "Q4_K"}
    assert formats_named("x.py", "from hifi_ref.formats import q4_k\ndef _q2_k(): pass") == {"Q4_K", "Q2_K"}
    assert formats_named("x.py", '"""Of Q4_K and Q6_K."""\n# Q2_K\n') == set()
    assert formats_named("x.md", "| Q4_K | Q6_K |") == {"Q4_K", "Q6_K"}


def test_what_tests_do_not_take_from_the_formats() -> None:
    """Tests fail where these are forgotten, as the checklist says with an asterisk."""
    assert LLAMA_CPP.keys() <= {kind.name for kind in DIALECTS[REFERENCE].ids.values()}
    of_the_fork = {kind.name for name, dialect in DIALECTS.items() if "hifi" in name for kind in dialect.ids.values()}
    assert {name for name, f in HIFI.items() if f.type_id is not None} <= of_the_fork
    assert all(places.bits(name) for name in LLAMA_CPP.keys() - FLOATS)
