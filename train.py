"""`composer train.py yamls/<run>.yaml [key=value ...] [--dry-run]`: train, or print what would be trained."""

from elc_composer.train import main

if __name__ == "__main__":
    main()
