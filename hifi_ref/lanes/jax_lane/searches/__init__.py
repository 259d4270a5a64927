"""Searches as XLA does them fast: texts of the JAX lane in the place of definitions in formats/search.

Each file bears the name of the definition's, and gives the same results; tests hold them equal.
"""

from collections.abc import Callable
from typing import Any

from hifi_ref.lanes.jax_lane.searches.nearest_row import nearest_rows
from hifi_ref.lanes.jax_lane.searches.single_steps import improve_by_single_steps
from hifi_ref.lanes.jax_lane.searches.split_search import best_places

# By the name of the function whose place it takes
FASTER_TEXTS: dict[str, Callable[..., Any]] = {
    "nearest_rows": nearest_rows,
    "improve_by_single_steps": improve_by_single_steps,
    "best_places": best_places,
}
