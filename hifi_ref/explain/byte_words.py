"""The map of a block's bytes in words and, for a terminal, as strips of letters."""

from __future__ import annotations

from typing import Any


def map_rows(periods: list[dict[str, Any]], account: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Bytes, bits and what they hold: a row for each piece of each run."""
    kinds = {row["kind"]: row for row in account}
    rows = []
    for period in periods:
        for run in period["runs"]:
            first, last = run["byte"], run["byte"] + run["size"] - 1
            where = f"{first}-{last}" if last > first else str(first)
            for piece in run["pieces"]:
                low, high = piece["low"], piece["high"]
                span = f"{low}-{high}" if high > low else str(low)
                rows.append((where, span, _holds(piece, run["size"], kinds[piece["kind"]])))
                where = ""
        if period["times"] > 1:
            times, stride = period["times"], period["stride"]
            rows.append(("", "", f"... and so on, {times} times in all, every {stride} bytes, with the next numbers"))
    return rows


def _holds(piece: dict[str, Any], count: int, row: dict[str, Any]) -> str:
    """The numbers of a piece of a run, and which of their bits."""
    kind, wide, total = piece["kind"], piece["high"] - piece["low"] + 1, row["bits_each"]
    if row["numbers"] == 1:
        which = kind
    elif count == 1 or not piece["step"]:
        which = f"{kind} {piece['at']}"
    else:
        indexes = [piece["at"] + i * piece["step"] for i in range(count)]
        spread = f"{indexes[0]}-{indexes[-1]}" if piece["step"] == 1 else ", ".join(map(str, indexes[:3])) + ", ..."
        which = f"{kind} {spread}"
    if piece["shift"]:
        return f"{which}, low byte first"
    if wide == total:
        return which
    first, last = piece["first"], piece["first"] + wide - 1
    return f"{which}: its bits {first}-{last}" if wide > 1 else f"{which}: its bit {first}"


def serves(account: list[dict[str, Any]]) -> str:
    """Which weights the numbers of each kind serve, in a sentence; nothing where there is one number of a kind."""
    said = []
    for row in account:
        kind, each = row["kind"], row["weights_each"]
        if row["numbers"] > 1 and each and not kind.startswith("outlier") and kind != "digits":
            weights = "weight i" if each == 1 else f"weights {each} i to {each} i + {each - 1}"
            said.append(f"{kind} i belongs to {weights}")
    return f"{'; '.join(said)}.".capitalize() if said else ""


def strips(periods: list[dict[str, Any]]) -> str:
    """A line for each run: its bytes, its bits from 7 to 0 as letters, and what the letters mean."""
    letters: dict[str, str] = {}
    lines = ["bytes     76543210"]
    for period in periods:
        for run in period["runs"]:
            drawn = "".join(
                _letter(piece["kind"], letters) * (piece["high"] - piece["low"] + 1) + "|" for piece in run["pieces"]
            )
            first, last = run["byte"], run["byte"] + run["size"] - 1
            where = f"{first}-{last}" if last > first else str(first)
            lines.append(f"{where:<9} {drawn.rstrip('|')[::-1]}")
        if period["times"] > 1:
            lines[-1] += f"    and so on, {period['times']} times, every {period['stride']} bytes"
    return "\n".join([*lines, "", ", ".join(f"{letter} {kind}" for kind, letter in letters.items())])


def _letter(kind: str, letters: dict[str, str]) -> str:
    """A letter for a kind: its first that is not taken."""
    if kind not in letters:
        word = kind.removeprefix("outlier ")
        candidates = word + word.upper() + "abcdefghijklmnopqrstuvwxyz"
        letters[kind] = next(letter for letter in candidates if letter.isalpha() and letter not in letters.values())
    return letters[kind]
