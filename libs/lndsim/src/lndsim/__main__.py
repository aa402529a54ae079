"""`python -m lndsim --dir DIR --nodes a,b,c`: see `lndsim.serve`."""

from lndsim.serve import main

if __name__ == "__main__":
    main()
