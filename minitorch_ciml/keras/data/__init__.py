"""Data sets whose samples are read when they are needed: folders of images and texts, windows."""
