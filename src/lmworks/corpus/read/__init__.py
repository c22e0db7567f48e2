"""Formats of files: bytes or a stream in, records or text out; what cannot be read costs its record a reason."""
