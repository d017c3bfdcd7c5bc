"""Policy optimization against a reward: PPO, RLOO and GRPO.

``trainer.py`` sets up a training and loops over updates, ``update.py`` is one update in the order
of the papers, ``rollout.py`` collects the answers, ``rewards.py`` scores them, and ``monitor.py``
decides when to stop and which policy to keep.
"""
