"""Training, evaluation and reproduction of convolutional networks in JAX.

jaxcnn.list_models lists the architectures and jaxcnn.create_model creates one. jaxcnn.load_pretrained loads a network with
its weights and preprocessing, and jaxcnn.save_pretrained saves one. jaxcnn.train.run(config, workdir) trains a network.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # imports the names in __init__.pyi on first use
