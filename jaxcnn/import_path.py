"""Classes of the user's own, named by their import path."""

import importlib
import os
import sys

from jaxcnn.errors import UserError


def import_class(setting: str, path: str, base: type) -> type:
    """The class "package.module:Class", a subclass of `base`; its module is looked for in the working directory too.

    Raises:
      UserError: no such module or class, or no subclass of `base`; the message begins with the name of the setting.
    """
    where, _, class_name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(where), class_name)
    except ModuleNotFoundError as error:
        if not f"{where}.".startswith(f"{error.name}."):
            raise  # the module exists; what it imports does not
        raise UserError(f'{setting}: no module "{where}", neither installed nor in {os.getcwd()}') from error
    except (TypeError, ValueError) as error:
        raise UserError(f'{setting}: "{path}" should be package.module:Class') from error
    except AttributeError as error:
        raise UserError(f'{setting}: the module "{where}" has no class "{class_name}"') from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{setting}: {path} is not a subclass of {base.__module__.removesuffix('.module')}.{base.__name__}")
    return found
