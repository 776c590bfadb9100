"""Names what is on pictures: python experiments/predict.py --workdir=runs/digits PHOTO…

Each picture gets the preprocessing that the network was trained with. One that can't be read is named on stderr, the
others are predicted all the same, and the exit code is 1.
"""

import json
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict

from jaxcnn import command
from jaxcnn.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "the run whose network predicts")
_TOP = flags.DEFINE_integer("top", 5, "how many classes to print for a picture", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print a JSON list: [{file, classes: [{name, probability}]}]")


def main(arguments: Sequence[str], config: ConfigDict | None) -> int:
    """Prints class names and probabilities, the most probable first."""
    if config is not None:
        raise UserError("--config: not taken here; the run in --workdir knows its own")
    if not _WORKDIR.value:
        raise UserError("--workdir: say which run's network shall predict, for example --workdir=runs/digits")
    if not arguments:
        raise UserError("name at least one picture: predict.py --workdir=RUN PHOTO…")

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import

    trained = train.load_trained(_WORKDIR.value)
    results, unreadable = train.predict_files(trained, arguments)
    for message in unreadable:
        print(f"error: {message}", file=sys.stderr)
    results = [result | {"classes": result["classes"][: _TOP.value]} for result in results]
    if _JSON.value:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        for result in results:
            print(result["file"])
            for row in result["classes"]:
                print(f"  {row['probability']:7.2%}  {row['name']}")
    return 1 if unreadable else 0


if __name__ == "__main__":
    command.run(main)
