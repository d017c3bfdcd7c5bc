"""The algorithms, as pure functions of tensors: masked statistics, losses, advantages, KL control."""
