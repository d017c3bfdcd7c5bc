"""Evaluation: pure functions of records that measure labels, judges, rewards and policies."""
