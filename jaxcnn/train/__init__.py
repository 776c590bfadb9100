"""Training: `run(config, workdir)` is the whole of it; `load_trained(workdir)` gives back what it made."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports what __init__.pyi names, when it is used
