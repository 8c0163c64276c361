"""A run, or several side by side, as one HTML page that needs no network; pictures and CSV besides."""
