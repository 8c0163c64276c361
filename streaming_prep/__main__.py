"""Entry point of `python -m streaming_prep`."""

from streaming_prep.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
