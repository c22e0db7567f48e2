"""Metrics over questions with gold spans: ranking, spans, abstention; and the loader of question sets."""
