"""From messages to the exact tokens a model reads, by the model's own chat template."""
