"""The algorithms as pure functions of tensors: losses, advantages, KL control, statistics."""
