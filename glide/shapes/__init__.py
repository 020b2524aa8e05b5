"""The built-in data set of captioned scenes, and the oracle that reads a picture back into facts."""
