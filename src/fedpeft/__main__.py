"""`python -m fedpeft`: the command line where its script is not on the path."""

from fedpeft.cli import main

if __name__ == "__main__":  # a process spawned by the program imports this file again
    main()
