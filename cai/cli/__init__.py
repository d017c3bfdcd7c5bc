"""The command line: one module per command, with its options beside its code."""
