"""`python -m l402train`: the same as the command `l402-train`."""

from l402train.cli import main

if __name__ == "__main__":
    main()
