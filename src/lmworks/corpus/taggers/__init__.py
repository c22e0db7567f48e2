"""Taggers: scores, spans and labels of a text, before a policy decides."""
