"""Optimizers: torch's where it has them, our own Lion and Muon."""
