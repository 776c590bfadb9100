"""Data: sources of examples, their order, batches, preprocessing and augmentation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports a name of __init__.pyi at its first use
