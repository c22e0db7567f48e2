"""`python -m lmworks` is the command line."""

from lmworks.cli.main import main

main()
