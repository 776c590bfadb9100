"""Architectures: one file a family. `create_model(name, **arguments)` makes one, `list_models(pattern)` lists them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports what __init__.pyi names, when it is used
