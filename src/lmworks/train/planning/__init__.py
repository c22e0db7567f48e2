"""Scaling laws and planning: what a training run costs, and which model and how many tokens a budget buys."""
