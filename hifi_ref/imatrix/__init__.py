"""Importance matrices, as llama-imatrix collects them; mixed, merged and compared: `python -m hifi_ref.imatrix`."""
