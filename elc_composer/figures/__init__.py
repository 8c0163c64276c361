"""Pictures of a run, drawn with matplotlib's Agg canvas and without global state."""
