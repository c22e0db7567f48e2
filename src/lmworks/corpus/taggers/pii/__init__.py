"""Personal data in training texts: where it stands, family by family."""
