"""Its place puts the reference encoders of this folder on the path of the tests below it."""
