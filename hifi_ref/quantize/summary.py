"""What became of each tensor, or would become, and how large that is."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hifi_ref.lanes import choose
from hifi_ref.lanes.speeds import MEASURED_ON
from hifi_ref.model_files.gguf_file import printable
from hifi_ref.quantize.plan import NewFile, Plan
from hifi_ref.quantize.write import kind_of, work_of


def written(file: NewFile) -> str:
    """After a file was written."""
    lines = "".join(_line(plan, file) for plan in file.plans)
    return f"{lines}{file.notes}wrote {printable(file.path)}: {file.size} bytes\n"


def planned(file: NewFile, quiet: bool = False) -> str:
    """Before a file is written: sizes by tensor, unless ``quiet``, and in all, in bytes."""
    lines = "" if quiet else "".join(_line(plan, file, sizes=True) for plan in file.plans)
    before = sum(plan.tensor.known_nbytes for plan in file.plans)
    after = sum(plan.nbytes for plan in file.plans)
    bits = 8 * after / max(1, sum(plan.tensor.elements for plan in file.plans))
    names = ", ".join(name for name, _ in file.lacking[:3])
    need = f"needs importance for {len(file.lacking)} tensors: {names}\n" if file.lacking else ""
    total = f"would write {printable(file.path)}, {file.name}: {file.size} bytes"
    return (
        f"{lines}{file.notes}{total}, tensors of {after} bytes in place of {before}, {bits:.2f} bits a weight\n{need}"
    )


def time_expected(files: Sequence[NewFile]) -> str:
    """For all files together: what they share is encoded once. Nothing where a build's profile is asked for."""
    if any("profile" in plan.context for file in files for plan in file.plans):
        return ""
    plans = {kind_of(plan): plan for file in files for plan in file.plans}
    seconds = choose.expected(work_of(plans.values()))
    return f"encoding takes about {_duration(seconds)} on {MEASURED_ON}; this machine has {os.cpu_count()}\n"


def _duration(seconds: float) -> str:
    for unit, long in (("h", 3600), ("min", 60)):
        if seconds >= 2 * long:
            return f"{seconds / long:.1f} {unit}"
    return f"{seconds:.1f} s"


def _line(plan: Plan, file: NewFile, sizes: bool = False) -> str:
    said = {key: value if isinstance(value, str) else f"{value:g}" for key, value in plan.context.items()}
    context = "".join(f", {key} {value}" for key, value in said.items())
    error = f", error {file.errors[plan.tensor.name]:.3g}" if plan.tensor.name in file.errors else ""
    size = f", {plan.tensor.known_nbytes} -> {plan.nbytes} bytes" if sizes else ""
    return f"{plan.tensor.name}: {plan.tensor.type_name} -> {plan.format}{context}{error}{size}\n"
