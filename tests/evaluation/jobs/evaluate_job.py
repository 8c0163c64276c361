"""Run the evaluation command on the ranks that the launcher started."""

import sys

from elc_composer.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
