"""Windowed PPO (T-PPO): its rollout buffer, its critic and its training loop."""
