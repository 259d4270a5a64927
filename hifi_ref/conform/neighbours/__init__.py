"""Judging the libraries of neighbouring systems by their vectors: `python -m hifi_ref.conform ... --dialect=NAME`."""
