"""`python -m fedpeft`: the command line where its script is not on the path."""

from fedpeft.cli import main

main()
