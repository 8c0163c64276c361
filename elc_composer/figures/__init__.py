"""Pictures of a run, drawn with matplotlib's Agg canvas and no global state."""
