"""`python -m lmworks` is the command line."""

from lmworks.cli import main

main()
