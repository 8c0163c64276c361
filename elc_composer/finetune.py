"""`python -m elc_composer.finetune MODEL --data DIR --tasks TASK ...`: fine-tunes on tasks and writes a table."""

from __future__ import annotations

import sys

from elc_composer.finetuning.command import main

if __name__ == "__main__":
    sys.exit(main())
