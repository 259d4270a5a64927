"""What quantizing did to a model: perplexity, divergence, error by tensor, a grade: `python -m hifi_ref.quality`."""
