"""Extractors of single files: the bytes of one PDF, DOCX, EPUB, mail or wiki page into its text as Markdown."""
