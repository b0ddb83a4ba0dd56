"""Figures of the chapters that are more than a call of `figures`, one module per subject."""
