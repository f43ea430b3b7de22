"""`python -m pinnflow`: the same program as `pinnflow`."""

from pinnflow.cli import main

if __name__ == "__main__":
    main()
