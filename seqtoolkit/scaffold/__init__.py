"""Plugins to begin from: the files of a new distribution, and what writes them."""
