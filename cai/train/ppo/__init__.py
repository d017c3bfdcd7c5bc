"""Policy optimization against a reward: PPO, RLOO and GRPO."""
