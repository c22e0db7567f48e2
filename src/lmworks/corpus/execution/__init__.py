"""Work in parts, by processes or by Ray."""
