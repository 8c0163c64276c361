"""`composer train.py yamls/<run>.yaml [key=value ...] [--dry-run]`: trains, or prints and checks the planned run."""

from elc_composer.train import main

if __name__ == "__main__":
    main()
