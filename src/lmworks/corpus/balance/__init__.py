"""Cleaned documents into a corpus in the wanted proportions: some are left out, some repeated, some repeats varied."""
