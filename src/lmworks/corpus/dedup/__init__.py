"""Texts that say the same: equal and near-equal documents, repeated parts, copied repositories, evaluation items."""
