"""From text to ids, by the vocabulary that a GGUF carries."""
