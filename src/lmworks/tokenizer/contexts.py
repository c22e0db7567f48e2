"""What is put around a text to see what a tokenizer makes of it there: what rules for words and normalisers tell apart,
such as letters of several scripts, digits, punctuation, and kinds of white space."""

BEFORE = ("", " ", "a", "\n", ".", "1", "x", "é", "я", "中", "の", "한", "ا", "ह", "(", "'", "_", "a ", "  ")
AFTER = ("", "a", " ", ".")
