"""``python -m foredrift``: the command line without its script, for interpreters where that is not on the PATH."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
