"""Tasks: what is learned, how its loss and its results are computed."""
