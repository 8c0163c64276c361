"""Report of one or several runs: an offline HTML page, PNG pictures and CSV tables."""
