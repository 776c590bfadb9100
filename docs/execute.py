"""Executes notebooks: python docs/execute.py docs/tutorials/*.ipynb. With --write their outputs are stored in them.

Each notebook runs in an empty temporary folder, on the CPU, in a kernel of the interpreter that runs this program.
The exit code is 1 if a cell fails or writes to stderr; the notebook is then left unchanged.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TIMEOUT = 300  # seconds per cell
DELAY = "WARNING:absl:Waiting for previous save"  # Orbax's message on a busy machine; commands silence it


def execute(notebook, folder):
    """Replaces the outputs of `notebook` by those of its cells, run in `folder`, and strips all other metadata.

    Raises:
      CellExecutionError: a cell failed.
    """
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=TIMEOUT, coalesce_streams=True, record_timing=False, resources=resources
    )
    kernel = client.create_kernel_manager()
    # Without folders to search, the kernel "python3" is ipykernel's own, which starts sys.executable.
    kernel.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
    kernel.transport_encryption = "auto"  # without encryption, ipykernel writes a warning to stderr
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(without_delays, cell.outputs) if output.get("text") != ""]


def without_delays(output):
    """Returns an output of a cell without the lines that depend on how busy the machine is."""
    if output.get("name") == "stderr":
        output.text = "".join(line for line in output.text.splitlines(keepends=True) if not line.startswith(DELAY))
    return output


def on_stderr(notebook):
    """Returns what the cells wrote to stderr: warnings, and the messages of C libraries."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def main():
    """Executes the notebooks named on the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--write", action="store_true", help="store the outputs in the notebooks")
    arguments = parser.parse_args()
    failed = False
    for file in arguments.notebooks:
        notebook = nbformat.read(file, as_version=4)
        with tempfile.TemporaryDirectory() as settings, tempfile.TemporaryDirectory() as folder:
            # Neither the startup files of the user's IPython nor an accelerator changes the outputs.
            os.environ |= {"IPYTHONDIR": settings, "JUPYTER_RUNTIME_DIR": settings, "JAX_PLATFORMS": "cpu"}
            try:
                execute(notebook, folder)
                error = on_stderr(notebook)
            except CellExecutionError as failure:
                error = str(failure)
        if error:
            print(f"{file}: {error}", file=sys.stderr)
            failed = True
        elif arguments.write:
            nbformat.write(notebook, file)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
