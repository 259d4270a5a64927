"""The sample model in every type and mixture, and what of the roadmaps' claims it bears out.

`python -m tools.roadmaps`:

    rows       what is measured: which scheme each matrix gets
    measure    a row's perplexity, divergence and size
    claims     verdicts on what roadmaps claim, from the rows
    page       the tables and the drawing of docs/roadmaps.md

Each uses only those above it.
"""
