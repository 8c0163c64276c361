"""Run the evaluation command on the ranks that the launcher started, once for each JSON list of arguments."""

import json
import sys

from elc_composer.evaluate import main

if __name__ == "__main__":
    sys.exit(max(main(json.loads(arguments)) for arguments in sys.argv[1:]))
