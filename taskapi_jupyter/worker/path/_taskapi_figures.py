"""A matplotlib backend for jobs: what a task shows is saved as ``figure-N.png`` in the job's files."""

import itertools
import os
import sys

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_numbers = itertools.count(1)


class FigureManager(FigureManagerBase):
    """Saves its figure where that is to be shown."""

    _shown = False

    def show(self):
        """Save the figure, unless it is as it was saved last; ``Figure.show`` ends here."""
        figure = self.canvas.figure
        if self._shown and not figure.stale:
            return
        save(figure)
        self._shown, figure.stale = True, False


class FigureCanvas(FigureCanvasAgg):
    """Draws on a picture."""

    manager_class = FigureManager


def new_figure_manager(num, *args, FigureClass=Figure, **kwargs):  # noqa: N803
    """Make a figure and its manager."""
    return new_figure_manager_given_figure(num, FigureClass(*args, **kwargs))


def new_figure_manager_given_figure(num, figure):
    """Make the manager of a figure."""
    return FigureManager(FigureCanvas(figure), num)


def show(*args, **kwargs):
    """Save all open figures and close them, as a notebook does."""
    try:
        for manager in Gcf.get_all_fig_managers():
            manager.show()
    finally:
        Gcf.destroy_all()


def save(figure):
    """Save a figure under the next name that is free, and say so in the log; a failure does not fail the task."""
    try:
        path = _new_file(os.environ.get("TASKAPI_OUTPUT_DIR") or os.curdir)
        try:
            figure.savefig(path, format="png", bbox_inches="tight")
        except BaseException:
            os.unlink(path)
            raise
        said = f"saved {os.path.basename(path)}"
    except Exception as error:  # no room, or a text that can't be drawn
        said = f"taskapi: a figure could not be saved: {type(error).__name__}: {' '.join(str(error).split())}"
    try:
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
    except Exception:  # the task may have closed its own streams
        pass


def _new_file(folder):
    """Make the next file that is not there yet, also where other processes of the job do the same."""
    os.makedirs(folder, exist_ok=True)
    while True:
        path = os.path.join(folder, f"figure-{next(_numbers)}.png")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        return path
