"""Robustness: the common corruptions of Hendrycks and Dietterich, and the mean corruption error."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports the names in __init__.pyi on first use
