"""Import of user-defined classes by their import path."""

import importlib
import os
import sys

from jaxcnn.errors import UserError


def import_class(setting: str, path: str, base: type) -> type:
    """Returns the class at `path`, "package.module:Class". The module may also be in the working directory.

    Raises:
      UserError: if the module or class does not exist or is not a subclass of `base`. The message begins with `setting`.
    """
    module, _, class_name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), class_name)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, but one of its imports does not
        raise UserError(f'{setting}: no module "{module}", neither installed nor in {os.getcwd()}') from error
    except (TypeError, ValueError) as error:
        raise UserError(f'{setting}: expected package.module:Class, got "{path}"') from error
    except AttributeError as error:
        raise UserError(f'{setting}: the module "{module}" has no class "{class_name}"') from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{setting}: {path} is not a subclass of {base.__module__.removesuffix('.module')}.{base.__name__}")
    return found
