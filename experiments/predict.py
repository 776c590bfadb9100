"""Names what is on pictures: python experiments/predict.py --workdir=runs/digits PHOTO…

or, by a network that others trained, --model=resnet50 --pretrained=FILE, or --pretrained=hf:timm/resnet50.tv_in1k.

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
_PRETRAINED = flags.DEFINE_string(
    "pretrained", None, "weights to predict with: a file, a run's folder, or hf:OWNER/NAME of the hub"
)
_MODEL = flags.DEFINE_string("model", None, "the model that they are of, where they do not say it")
_TOP = flags.DEFINE_integer("top", 5, "how many classes to print for a picture", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "print a JSON list: [{file, classes: [{name, probability}]}]")


def main(arguments: Sequence[str], config: ConfigDict | None) -> int:
    """Prints class names and probabilities, the most probable first."""
    if config is not None:
        raise UserError("--config: not taken here; the run in --workdir knows its own")
    if _MODEL.value and not _PRETRAINED.value:
        raise UserError("--model: goes with --pretrained=WEIGHTS")
    if _PRETRAINED.value and _WORKDIR.value:
        raise UserError("--pretrained: not together with --workdir")
    source = _PRETRAINED.value or _WORKDIR.value
    if not source:
        raise UserError("--workdir: say which run's network shall predict, for example --workdir=runs/digits")
    if not arguments:
        raise UserError("name at least one picture: predict.py --workdir=RUN PHOTO…")

    from jaxcnn import train  # after the flags are known to be right: it takes seconds to import

    trained = train.from_pretrained(source, _MODEL.value) if _PRETRAINED.value else train.load_trained(source)
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
