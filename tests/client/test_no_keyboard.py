"""A cell that asks for input or shows figures, in a real notebook with a server and without one."""

from __future__ import annotations

from support.kernels import Kernel

ASKS = """%%taskapi submit asks k={} --wait
def run(config):
    if config["k"] == "input":
        input("name? ")
    else:
        breakpoint()
"""


def test_a_cell_that_asks(notebook: Kernel) -> None:
    told = notebook.run(ASKS.format("input"))
    assert told.count("cell asks, line 4: input() fails, as a job has no keyboard: give the value in the config") == 1
    assert told.count("cell asks, line 6: breakpoint() can't be used, as a job has no keyboard") == 1
    assert "EOFError: EOF when reading a line (a job has no keyboard: give the value in the config)" in told
    told = notebook.run(ASKS.format("breakpoint"))
    assert "bdb.BdbQuit (a job has no keyboard: breakpoint() and debuggers can't be used)" in told


def test_a_function_that_uses_what_is_ipythons(notebook: Kernel) -> None:
    notebook.run(
        "import matplotlib.pyplot as plt\ndef helper():\n    display(1)\ndef shows(config):\n    plt.plot([1]); plt.show()\n    helper()"
    )
    told = notebook.run("%taskapi deploy shows --function shows")
    assert "line 3: display is available in notebooks only: a job that reaches this line fails" in told
    told = notebook.run(
        "job = %taskapi submit shows\nprint(job.wait().reason, job.logs(), [file.path for file in job.files()])"
    )
    assert "NameError: name 'display' is not defined" in told
    assert "saved figure-1.png\n" in told
    assert "['figure-1.png']" in told
