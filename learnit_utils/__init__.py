"""Learned initialisations for coordinate-based neural representations, in plain JAX.

Modules, lowest floor first (a module imports only from lower floors):

0. `fields`, `metrics`, `parameters`, `assets`
1. `observe`, `signals`, `figures`, `slider`, `chapter`
3. `runner`
4. the `learnit` command
"""

__version__ = "0.1.0"
