"""The trainers: SFT, reward models, PPO and DPO, as short loops over the losses of ``cai.rl``."""
