"""The commands that make a folder of a model, as functions: what a notebook calls, and what the command line calls."""
