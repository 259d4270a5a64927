"""The README says what is so: its example, its table of formats, its commands, its rooms."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from hifi_ref.__main__ import COMMANDS
from hifi_ref.formats import LLAMA_CPP

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
# What a room's table need not name.
NO_ROOMS = {"__init__.py", "py.typed", "__pycache__"}


def format_table() -> str:
    """The rows of the README's table of formats."""
    rows = []
    for f in LLAMA_CPP.values():
        offered = {"decode": f.decode, "encode": f.encode, "dot": f.dot}
        names = ", ".join(name + "*" * (name == "encode" and f.requires_weights) for name in offered if offered[name])
        bits = f"{f.layout.bits_per_weight:.6g}"
        rows.append((f.name, f.type_id, f.block_size, f.type_size, bits, names, f.dot_with or "-"))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def section(title: str) -> str:
    return README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_formats() -> None:
    assert f"|\n{format_table()}\n\n" in README.read_text()


def test_the_example() -> None:
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted == 5 and result.failed == 0


def test_two_commands_do_all_set_up() -> None:
    """These are what .ci/run runs."""
    commands = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert [command.count("\n") for command in commands] == [1, 1]
    assert "pip install ." in commands[0] and "python -m pytest" in commands[1]


def test_the_commands() -> None:
    table = README.read_text().split("| command | does |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `python -m hifi_ref\.(\w+)", table, re.MULTILINE) == list(COMMANDS)


def test_every_room_is_named() -> None:
    """Each folder of the repository and each room of the package, once; and nothing that is not there."""
    first_cells = re.findall(r"^\| ([^|]*) \|", section("Where things are"), re.MULTILINE)
    rooms = [room for cell in first_cells for room in re.findall(r"`([\w/]+(?:/|\.py))`", cell)]
    assert all((ROOT / room).exists() for room in rooms) and len(set(rooms)) == len(rooms)
    here = {path.name for path in (ROOT / "hifi_ref").iterdir()} - NO_ROOMS
    named = {Path(room).name for room in rooms if room.startswith("hifi_ref/")}
    assert named == {name for name in here if name.endswith(".py") or any((ROOT / "hifi_ref" / name).glob("*.py"))}
    folders = {path.parent.name for path in ROOT.glob("*/*.py")} | {"docs"}
    assert folders - {"hifi_ref", "build"} == {
        room[:-1] for room in rooms if room.count("/") == 1 and room.endswith("/")
    }
