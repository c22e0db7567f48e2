"""Files, addresses and packaged documentation to read from."""
