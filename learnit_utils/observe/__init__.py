"""Measurements M of a signal: what is seen of it. One module each."""
