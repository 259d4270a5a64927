"""The perplexity of a language model over a text, as llama-perplexity defines it: `python -m hifi_ref.perplexity`."""
