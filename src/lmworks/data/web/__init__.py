"""Main text of web pages: a page as blocks, features of each, and a small model that says which to keep."""
