"""Describes a data set on one page: python experiments/show_data.py --config=configs/folder.py --config.data.root=DIR.

The page has the counts per class and split (of images, pixels of maps, boxes), image sizes, unreadable files, identical images
within and between splits, mean and std, and examples before and after augmentation as used in training, with maps and boxes
drawn over them. --out=FILE.html is the page; --json=FILE contains the same findings as numbers.
At most --sample image files are read; 3,670 photos take about 10 s on two cores.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxcnn import command
from jaxcnn.config import Config
from jaxcnn.errors import UserError

_OUT = flags.DEFINE_string("out", "data.html", "path of the page")
_JSON = flags.DEFINE_string("json", None, "path of a JSON file for the findings")
_SAMPLE = flags.DEFINE_integer("sample", 20_000, "maximum number of image files that are read", lower_bound=1)


def main(arguments: Sequence[str], config: Config | None) -> None:
    """Prints a summary of the findings and the path of the page."""
    if arguments:
        raise UserError(f"{arguments[0]!r}: show_data.py accepts only flags")
    if config is None:
        raise UserError("expected --config=FILE, such as configs/folder.py with --config.data.root=DIR")
    for flag in (_OUT, _JSON):
        if flag.value and not Path(flag.value).absolute().parent.is_dir():
            raise UserError(f'--{flag.name}: no folder "{Path(flag.value).parent}" to write into')
        if flag.value is not None and (not flag.value or Path(flag.value).is_dir()):
            raise UserError(f'--{flag.name}: "{flag.value}" is a folder; expected a file')

    from jaxcnn.report import (  # after the flags are checked: it takes seconds to import
        data_findings,
        data_found,
        data_page,
    )

    found = data_found.examine(config, sample=_SAMPLE.value)
    findings = data_findings.findings(found)
    try:
        data_page.write_data_page(_OUT.value, found)
    except OSError as error:
        raise UserError(f"--out: {_OUT.value} can't be written ({error.strerror})") from error
    try:
        if _JSON.value:
            Path(_JSON.value).write_text(json.dumps(findings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json: {_JSON.value} can't be written ({error.strerror})") from error
    print(data_findings.as_text(findings))
    print(_OUT.value)


if __name__ == "__main__":
    command.run(main)
