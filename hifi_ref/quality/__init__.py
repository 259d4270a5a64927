"""What quantizing did to a model: perplexity, divergence, error by tensor, a grade: `python -m hifi_ref.quality`.

super_weights.py lists the single weights that a model cannot do without.
"""
