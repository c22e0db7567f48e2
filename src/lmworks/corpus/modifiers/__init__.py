"""Repairs by kind of text, as edits: books, mail, chat, web pages; and what is to be said of a file of code."""
