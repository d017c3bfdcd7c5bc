"""The training stages: supervised fine-tuning, reward model, rollout, PPO. Short loops over ``cai.rl``."""
