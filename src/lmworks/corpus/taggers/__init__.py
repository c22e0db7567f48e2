"""Annotators: what is measured, marked and labelled in a text before a policy decides."""
