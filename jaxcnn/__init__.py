"""Convolutional networks trained, checked and reproduced in JAX.

jaxcnn.create_model and jaxcnn.list_models give architectures, jaxcnn.load_pretrained one with its weights and its
preprocessing, which jaxcnn.save_pretrained writes; jaxcnn.train.run(config, workdir) trains one.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports what __init__.pyi names, when it is used
